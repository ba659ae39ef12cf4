package main

// A recipe builds a source in two versions.
type recipe struct {
	source string
	build  string   // for sh, in the unpacked source
	files  []string // what was built, as patterns
}

// The environment has CFLAGS, CXXFLAGS, CPPFLAGS and LDFLAGS as Debian builds
// with them, but symbols and relocations are kept.
const configure = "test -x configure || autoreconf -fi >autoreconf.log 2>&1; ./configure --disable-dependency-tracking --disable-silent-rules "

var recipes = []recipe{
	{"xz-utils", configure + "--disable-nls --disable-static && make -j2", []string{"src/liblzma/.libs/liblzma.so.*.*.*", "src/xz/.libs/xz", "src/xzdec/.libs/xzdec", "src/lzmainfo/.libs/lzmainfo"}},
	{"unzip", `make -f unix/Makefile CC=gcc CF="$CFLAGS $CPPFLAGS -I. -DUNIX -D_FILE_OFFSET_BITS=64 -DLARGE_FILE_SUPPORT -DUNICODE_SUPPORT -DUNICODE_WCHAR -DUTF8_MAYBE_NATIVE -DNO_LCHMOD -DHAVE_DIRENT_H -DHAVE_TERMIOS_H" LF2="$LDFLAGS" SL2="$LDFLAGS" FL2="$LDFLAGS" unzips`, []string{"unzip", "funzip", "unzipsfx"}},
	{"redis", `make -j2 MALLOC=libc USE_SYSTEMD=no OPTIMIZATION=-O2 REDIS_CFLAGS="$CFLAGS" REDIS_LDFLAGS="$LDFLAGS"`, []string{"src/redis-server", "src/redis-cli", "src/redis-benchmark"}},
	{"haproxy", `make -j2 TARGET=linux-glibc USE_ZLIB=1 USE_OPENSSL=1 CPU_CFLAGS="$CFLAGS $CPPFLAGS" ADDLIB="$LDFLAGS" EXTRA=`, []string{"haproxy"}},
	{"jq", configure + "--disable-static --without-oniguruma --disable-docs && make -j2", []string{".libs/libjq.so.*.*.*", ".libs/jq"}},
	{"libgd2", configure + "--disable-static --without-x --with-png --with-zlib && make -j2", []string{"src/.libs/libgd.so.*.*.*"}},
	{"djvulibre", configure + "--disable-static --disable-desktopfiles && make -j2", []string{"libdjvu/.libs/libdjvulibre.so.*.*.*", "tools/.libs/djvused", "tools/.libs/c44"}},
	{"expat", `cd expat && gcc $CPPFLAGS $CFLAGS -fPIC -shared -Ilib -DXML_GE=1 -DXML_DTD -DXML_NS -DXML_CONTEXT_BYTES=1024 -DHAVE_GETRANDOM -DBYTEORDER=1234 -DHAVE_MEMMOVE $LDFLAGS -Wl,-soname,libexpat.so.1 -o ../libexpat.so.1 $(test -f lib/random.c && echo lib/random.c) lib/xmlparse.c lib/xmlrole.c lib/xmltok.c`, []string{"libexpat.so.1"}},
	{"nginx", `./configure --with-cc-opt="$CFLAGS $CPPFLAGS" --with-ld-opt="$LDFLAGS" --without-http_rewrite_module --with-http_ssl_module --with-http_v2_module --with-stream --with-mail && make -j2`, []string{"objs/nginx"}},
	{"libpng1.6", configure + "--disable-static && make -j2", []string{".libs/libpng16.so.*.*.*"}},
	{"libmodbus", configure + "--disable-static && make -j2", []string{"src/.libs/libmodbus.so.*.*.*"}},
	{"libevent", configure + "--disable-static --disable-samples --disable-libevent-regress --disable-openssl && make -j2", []string{".libs/libevent-*.so.*.*.*", ".libs/libevent_core*.so.*.*.*"}},
	{"libarchive", configure + "--disable-static --without-xml2 && make -j2", []string{".libs/libarchive.so.*.*.*", ".libs/bsdtar"}},
	{"mosquitto", `make -j2 -C lib WITH_CJSON=no WITH_DOCS=no CFLAGS="$CFLAGS -fPIC" LDFLAGS="$LDFLAGS" && make -j2 -C src WITH_CJSON=no WITH_DOCS=no WITH_SYSTEMD=no WITH_WEBSOCKETS=no CFLAGS="$CFLAGS" LDFLAGS="$LDFLAGS"`, []string{"lib/libmosquitto.so.1", "src/mosquitto"}},
	{"rsync", configure + "--disable-xxhash --disable-zstd --disable-lz4 --disable-md2man && make -j2", []string{"rsync"}},
	{"ntfs-3g", configure + "--disable-static --disable-crypto && make -j2", []string{"libntfs-3g/.libs/libntfs-3g.so.*.*.*", "src/.libs/ntfs-3g", "ntfsprogs/.libs/mkntfs"}},
	{"antiword", `make -f Makefile.Linux CC=gcc CFLAGS="$CFLAGS -DNDEBUG" LDFLAGS="$LDFLAGS" antiword`, []string{"antiword"}},
	{"libxml2", configure + "--disable-static --without-python --without-lzma && make -j2 libxml2.la xmllint", []string{".libs/libxml2.so.*.*.*", ".libs/xmllint"}},
	{"openssh", configure + "&& make -j2", []string{"sshd", "ssh", "ssh-agent", "ssh-keygen", "scp"}},
	{"sudo", configure + "--disable-nls --without-pam && make -j2", []string{"src/.libs/sudo", "plugins/sudoers/.libs/sudoers.so"}},
	{"libde265", configure + "--disable-static --disable-sherlock265 && make -j2", []string{"libde265/.libs/libde265.so.*.*.*"}},
	{"cyrus-sasl2", configure + "--disable-static --disable-gssapi && make -j2", []string{"lib/.libs/libsasl2.so.*.*.*"}},
	{"7zip", `make -j2 -C CPP/7zip/Bundles/Alone2 -f makefile.gcc DISABLE_RAR=1 CFLAGS_ADD="$CFLAGS" LDFLAGS_STATIC="$LDFLAGS" LDFLAGS="$LDFLAGS"`, []string{"CPP/7zip/Bundles/Alone2/_o/7zz"}},
	{"git", `make -j2 NO_CURL=1 NO_TCLTK=1 NO_GETTEXT=1 NO_PERL=1 NO_PYTHON=1 NO_EXPAT=1 CFLAGS="$CFLAGS" LDFLAGS="$LDFLAGS" git`, []string{"git"}},
	{"openssl", `./Configure shared no-tests linux-x86_64 ${CFLAGS%-fPIE} -fPIC $LDFLAGS && make -j2 build_libs apps/openssl`, []string{"libcrypto.so.3", "libssl.so.3", "apps/openssl"}},
	{"wolfssl", configure + "--disable-static && make -j2", []string{"src/.libs/libwolfssl.so.*.*.*"}},
	{"tiff", configure + "--disable-static && make -j2", []string{"libtiff/.libs/libtiff.so.*.*.*", "tools/.libs/tiffcrop", "tools/.libs/tiff2pdf"}},
	{"less", configure + "&& make -j2", []string{"less"}},
	{"dnsmasq", `make CFLAGS="$CFLAGS $CPPFLAGS" LDFLAGS="$LDFLAGS"`, []string{"src/dnsmasq"}},
	{"tar", "export FORCE_UNSAFE_CONFIGURE=1; " + configure + "--disable-nls && make -j2", []string{"src/tar"}},
	{"cpio", configure + "--disable-nls && make -j2", []string{"src/cpio"}},
	{"giflib", `make CFLAGS="$CFLAGS -fPIC -std=gnu99" LDFLAGS="$LDFLAGS" libgif.so giftool`, []string{"libgif.so*", "giftool"}},
	{"libexif", configure + "--disable-static --disable-nls && make -j2", []string{"libexif/.libs/libexif.so.*.*.*"}},
	{"file", configure + "--disable-static && make -j2", []string{"src/.libs/libmagic.so.*.*.*", "src/.libs/file"}},
	{"libtasn1-6", configure + "--disable-static --disable-doc && make -j2", []string{"lib/.libs/libtasn1.so.*.*.*"}},
	{"patch", configure + "--disable-nls && make -j2", []string{"src/patch"}},
}
