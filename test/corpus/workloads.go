package main

// workloads are tried in the live cycle of their source. Those that name a CVE,
// and some others, have an input on which the two builds differ.
var workloads = []workload{
	{
		source: "aom", modules: "libaom.so.3.6.0", program: "/usr/bin/aomenc", args: "-q --ivf --cpu-used=8 --lag-in-frames=3 --threads=1 --limit=6 -o out.ivf in.y4m",
		input: `perl -e 'print "YUV4MPEG2 W64 H48 F25:1 Ip C420jpeg\n"; for $f (0..5) { print "FRAME\n"; print pack "C*", map { ($_ * 7 + $f * 3) & 255 } 1 .. 64 * 48 * 3 / 2 }' >in.y4m`,
		does:  "encodes a film",
	},
	{
		source: "brotli", modules: "bin/brotli", program: "/usr/bin/brotli", args: "-d numbers.br",
		input: `base64 -d >numbers.br <<E
YogAvyPBxoX62LgRE3EoNemuG4x936IsBuJYp6XppSTRLqLJX1VTq3aduvXqF0CECc2wHC+IkqyoNVqd3sDQyNjEtBmz5sxbsGjJshWrrbHWOutt2LRl247d9thrn/0OHDpy7MRpZ5x1znkXLl25duO2O+66574Hj548e/HaG2+9896HT1++/fjtj7/++Q8CJCjQYMCCAy544MOACQs2HLjwwAsf/ChQokKNBi066KKHPg6cuHDjwYsPvvjhT4IkKdJkyJJDLnnk00EnXXTTQy996Es/+jPBJFNMM8Msc5jLPOazwSZbbLPDLnvYyz72c8ElV1xzwy13uMs97vPBJ19888Mvf/jLP/4LIaRQQgsjrHCEKzzhiyGmWGKLI654xCs+8UshpVRSSyOtdKQrPenLIadccssjr3zkKz/5K6GkUkoro6xylKs85atDnepSt3rUqz7qq37qrwlNakrTmtGs5miu5mm+NrSpLW1rR7vao73ap/260KWudK0b3eqO7uqe7utDn/rSt370qz/6q3/6KQA=
E`,
		does: "unpacks a file",
	},
	{
		source: "djvulibre", modules: "libdjvulibre.so.21.7.0", program: "/usr/bin/c44", args: "in.pgm out.djvu",
		input: `echo P2 4 2 255 1 2 3 4 5 6 7 8 >in.pgm`,
		does:  "encodes a picture",
	},
	{
		source: "djvulibre", modules: "libdjvulibre.so.21.7.0", program: "/usr/bin/c44", args: "in.pgm out.djvu",
		input: `echo P2 0 2 255 1 2 3 4 5 6 7 8 >in.pgm`,
		does:  "encodes a picture without width (CVE-2021-46310)",
	},
	{
		source: "ghostscript", modules: "libgs.so.10.00", program: "/usr/bin/gs", needs: "libgs10-common libgs-common",
		args: "-q -dBATCH -dNOPAUSE -sICCProfilesDir={/usr/share/color/icc/ghostscript}/ -sDEVICE=ppmraw -r36 -g100x100 -o out.ppm in.ps",
		env:  "GS_LIB={/usr/share/ghostscript/10.00.0/Resource/Init}:{/usr/share/ghostscript/10.00.0/Resource/Init}/..",
		input: `cat >in.ps <<'E'
%!PS
/try { stopped { $error /errorname get == clear } if } def
{ { (48656c6c6f>) } /ASCIIHexDecode filter 5 string readstring pop == } try
{ true setglobal { (48656c6c6f>) } false setglobal /ASCIIHexDecode filter 5 string readstring pop == } try
{ true setglobal /p { (48656c6c6f>) dup length string copy } def false setglobal /p load 0 () /SubFileDecode filter 5 string readstring pop == } try
{ 0 0 moveto << /ShadingType 2 /ColorSpace /DeviceRGB /Coords [0 0 100 100] /Domain [0 1] /Extend [true true]
/Function [ 3 { << /FunctionType 2 /Domain [0 1] /C0 [0] /C1 [1] /N 1 >> } repeat ] >> shfill } try
{ << /ShadingType 2 /ColorSpace /DeviceRGB /Coords [0 0 100 100] /Domain [0 1]
/Function [ 3 { << /FunctionType 2 /Domain [0 1] /C0 [0 0 0] /C1 [1 1 1] /N 1 >> } repeat ] >> shfill } try
{ << /ShadingType 4 /ColorSpace /DeviceRGB /DataSource [0 0 0 .1  0 90 0 .4  0 0 90 .9] /Decode [0 100 0 100 0 1]
/Function [ 3 { << /FunctionType 2 /Domain [0 1] /C0 [0 0] /C1 [1 1] /N 1 >> } repeat ] >> shfill } try
{ << /ShadingType 1 /ColorSpace /DeviceGray /Domain [0 1 0 1] /Matrix [50 0 0 50 0 0] /Function << /FunctionType 4 /Domain [0 1 0 1] /Range [0 1] /Function { add 2 div } >> >> shfill } try
showpage
E`,
		does: "filters by procedures, and shadings by functions, one of them with too many results (CVE-2026-101258)",
	},
	{
		source: "git", modules: "bin/git", program: "/usr/bin/git", args: "config --file settings a.b value\r",
		does: "writes a setting that ends with a carriage return (CVE-2025-48384)",
	},
	{
		source: "glib2.0", modules: "glib/unicode", program: "/usr/libexec/installed-tests/glib/unicode", args: "--seed=R02S00000000000000000000000000000000",
		does: "a test program of the package",
	},
	{
		source: "glibc", modules: "gconv/IBM1390.so", load: true, program: "/usr/bin/iconv", args: "-f IBM1390 -t UTF-8 in",
		env:   "GCONV_PATH={/usr/lib/x86_64-linux-gnu/gconv}",
		input: `perl -e 'print "\xc1\x0e", "\x44\x4b\xec\xb5" x 5000, "\x0f\xc1"' >in`,
		does:  "converts a text with combined characters (CVE-2026-4046)",
	},
	{
		source: "imagemagick", modules: "modules-Q16/coders/pnm.so modules-Q16/coders/psd.so", load: true, program: "/usr/bin/convert-im6.q16",
		args:  "in.ppm -compress rle out.psd",
		env:   magick,
		input: `echo P3 4 2 255 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 >in.ppm`,
		does:  "converts a picture",
	},
	{
		source: "imagemagick", modules: "modules-Q16/coders/tga.so", load: true, program: "/usr/bin/convert-im6.q16",
		args:  "in.tga out.ppm",
		env:   magick,
		input: `perl -e 'print pack("C*", 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 4, 0, 24, 0), "abc" x 16' >in.tga`,
		does:  "converts a picture",
	},
	{
		source: "jq", modules: "libjq.so.1.0.4", program: "/usr/bin/jq", args: "-c -n -f filter",
		input: `echo '"ab" * (0, 1, 3, 1e10)' >filter`,
		does:  "repeats strings, one of them too often",
	},
	{
		source: "nagios4", modules: "nagios4/cmd.cgi", program: "/usr/lib/cgi-bin/nagios4/cmd.cgi",
		env: "REQUEST_METHOD=GET QUERY_STRING=cmd_typ=11&cmd_mod=2&NagFormId=a%3Cb%3E HTTP_COOKIE=NagFormId=a<b> NAGIOS_CGI_CONFIG=cgi.cfg",
		input: `echo main_config_file=nagios.cfg >cgi.cfg
echo use_authentication=0 >>cgi.cfg
echo object_cache_file=none >nagios.cfg`,
		does: "answers a request whose form number is none (CVE-2026-48550)",
	},
	{
		source: "p7zip", modules: "p7zip/7z", program: "/usr/lib/p7zip/7z", args: "a -bb3 -mtc- -mtm- out.7z in",
		input: `mkdir in; seq 1 5000 >in/a`,
		does:  "packs a file and a folder",
	},
	{
		source: "pcre2", modules: "bin/pcre2test", program: "/usr/bin/pcre2test", args: "-8 -jit in",
		input: `cat >in <<'E'
/a(b|c)+d/I,jitstack=64
    abcbcd
    xx
E`,
		does: "runs a test script",
	},
	{
		source: "poppler", modules: "libpoppler.so.126.0.0 bin/pdfinfo", program: "/usr/bin/pdfinfo", args: "-dests file.pdf",
		input: `cat >file.pdf <<'E'
%PDF-1.4
1 0 obj <</Type/Catalog/Pages 2 0 R/Dests 5 0 R>> endobj
2 0 obj <</Type/Pages/Kids[3 0 R]/Count 1>> endobj
3 0 obj <</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Contents 4 0 R/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>> endobj
4 0 obj <</Length 33>> stream
BT /F 20 Tf 10 40 Td (Hello) Tj ET
endstream endobj
5 0 obj <</a[3 0 R/XYZ 0 100 0]/b[9 0 R/Fit]/c[7/XYZ 0 100 0]/d null/e[3 0 R]>> endobj
trailer <</Root 1 0 R/Size 6>>
E`,
		does: "lists the destinations in a document",
	},
	{
		source: "poppler", modules: "libpoppler.so.126.0.0", program: "/usr/bin/pdftoppm", args: "-r 36 file.pdf page",
		input: `cat >file.pdf <<'E'
%PDF-1.4
1 0 obj <</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[]/DA(/Helv 12 Tf)>>>> endobj
2 0 obj <</Type/Pages/Kids[3 0 R]/Count 1>> endobj
3 0 obj <</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Annots[6 0 R]>> endobj
6 0 obj <</Type/Annot/Subtype/FreeText/Rect[10 10 150 60]/Contents(Hello)/DA(/Helvetica 12 Tf 0 g)/C[1 0 0]/BS<</W 3>>/Q 1>> endobj
trailer <</Root 1 0 R/Size 7>>
E`,
		does: "draws a page with a note",
	},
	{
		source: "postgresql-15", modules: "libpq.so.5.15 bin/pg_isready", program: "/usr/lib/postgresql/15/bin/pg_isready",
		args: "-h 127.0.0.1 -p 1",
		does: "asks for a server that is not there",
	},
	{
		source: "postgresql-15", modules: "bin/pg_restore", program: "/usr/lib/postgresql/15/bin/pg_restore", args: "-l dump",
		input: `printf 'PGDMP\001\016\000\004\010\001' >dump`,
		does:  "reads a dump that is cut off",
	},
	{
		source: "puma", modules: "puma/puma_http11.so", load: true, program: "/usr/bin/ruby3.1", args: "--disable=gems requests.rb",
		env: rubyLibrary + ":{/usr/lib/x86_64-linux-gnu/rubygems-integration/3.1.0/extensions/x86_64-linux/3.1.0/puma-5.6.5/puma}",
		input: `cat >requests.rb <<'E'
require 'puma_http11'
def try(text)
  parser, env = Puma::HttpParser.new, {}
  p parser.execute(env, text, 0), parser.finished?, parser.body, env
rescue Puma::HttpParserError => e
  p e.message
end
try "GET /a?b=c HTTP/1.1\r\nHost: x\r\nX_Y: 1\r\nX-Y: 2\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"
try "GET /a HTTP/1.1\r\nX-Y: " + "z" * 90000 + "\r\n\r\n"
E`,
		does: "parses requests",
	},
	{
		source: "putty", modules: "bin/pageant", program: "/usr/bin/pageant", args: "--exec sh sign {/usr/bin/pageant}",
		input: `cat >key.ppk <<E
PuTTY-User-Key-File-3: ecdsa-sha2-nistp521
Encryption: none
Comment: test
Public-Lines: 4
AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAATqxgiXwf2
cCr2gISKm8z3yqKT7uynLwQO3SMnxW/5p0ntXTPLTX+sLCpadSma5P7wJfjOZSeR
XXqs9KTwFDnY5wAclOIhjepU67HuE8Zqo8HlrfZqg7xjuxtSv9xPis+SOZ50epJ1
p84Ti5OqfLwz+aIFf7qkcLIGnLp5qch9ZhYbNw==
Private-Lines: 2
AAAAQWr8ZMDAtOLbC8RgewEbHR2X4ZLqgwbP4pp4B49u93o60K6CtES/ews+OaQj
r3gr6ZE7ym5snuD04HBQ2ELS2TrM
Private-MAC: ed788eec4abe6b3d2238ab9298ef0d78a08334bdbec5b866dab81738283732ba
E
cat >sign <<'E'
$1 -a key.ppk
echo text | $1 --test-sign test | base64
E`,
		does: "an agent signs with a key on P-521 (CVE-2024-31497)",
	},
	{
		source: "python3.11", modules: "_ssl.cpython-311-x86_64-linux-gnu.so", load: true, program: "/usr/bin/python3.11",
		args: "-S -B script.py",
		env:  "PYTHONPATH={/usr/lib/python3.11/asyncio}/..:{/usr/lib/python3.11/encodings}/..:{/usr/lib/python3.11/encodings}/../lib-dynload",
		input: `cat >script.py <<'E'
import ssl
c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
b = c.wrap_bio(i, o, server_hostname="a")
try:
    b.do_handshake()
except ssl.SSLWantReadError:
    print("sends", o.pending > 100, b.pending())
print(ssl.RAND_status(), len(c.get_ciphers()) > 5, c.cert_store_stats())
i.write(b"no TLS record at all")
try:
    b.do_handshake()
except ssl.SSLError as e:
    print(e)
try:
    c._wrap_bio(i, i, False, server_hostname="a")
    print("takes one object for both ways")
except Exception as e:
    print(type(e), e)
E`,
		does: "begins TLS connections in memory",
	},
	{
		source: "redis", modules: "bin/redis-check-aof", program: "/usr/bin/redis-check-rdb", args: "dump.rdb",
		input: `base64 -d >dump.rdb <<E
UkVESVMwMDEw/gATAXMBEAAAAAAAAAABAAAAAAAAAAAlJQAAAAoAAQEAAQEBhWZpZWxkBgABAgEAAQABhXZhbHVlBgQB/wEBAAEAAAABAQFnAQABAQAAAAAAAAABAAAAAAAAAACD/BAPogEAAAECBWZpcnN0g/wQD6IBAAABAAAAAAAAAAEAAAAAAAAAAAZzZWNvbmRL/RAPogEAAAD/AAAAAAAAAAA=
E`,
		does: "reads a dump with a stream that two consumers read",
	},
	{
		source: "ruby-oj", modules: "oj/oj.so", load: true, program: "/usr/bin/ruby3.1", args: "--disable=gems documents.rb", needs: "ruby3.1",
		env: rubyLibrary + ":{/usr/lib/x86_64-linux-gnu/rubygems-integration/3.1.0/gems/oj-3.14.2/lib}" +
			":{/usr/lib/x86_64-linux-gnu/rubygems-integration/3.1.0/extensions/x86_64-linux/3.1.0/oj-3.14.2}",
		input: `cat >documents.rb <<'E'
require 'oj'
h = {'a' => [1, 2.5, nil, true, 'x' * 100], 'b' => {'c' => "\u00e9\n", 'long' * 20 => 3}}
puts Oj.dump(h, mode: :compat), Oj.dump(h, mode: :strict, indent: 2)
p Oj.load(Oj.dump(h), symbol_keys: true), Oj.strict_load('{"x":[1,{"y":2}]}'), Oj.safe_load('[1.5e3]')
class H < Oj::ScHandler
  def hash_start; {}; end
  def hash_set(h,k,v); h[k]=v; end
  def array_start; []; end
  def array_append(a,v); a << v; end
  def add_value(v); p v; end
end
Oj.sc_parse(H.new, '{"k":[1,{"z":"w"}]}')
class S < Oj::Saj
  def hash_start(k); p [:h,k]; end
  def hash_end(k); end
  def array_start(k); p [:a,k]; end
  def array_end(k); end
  def add_value(v,k); p [v,k]; end
  def error(m,l,c); p m; end
end
Oj.saj_parse(S.new, '{"' + 'k' * 80 + '":[1,{"z":"w"}]}')
Oj::Doc.open('{"a":[1,2,{"b":3}]}') { |d| d.each_child('/a') { |c| p c.where? }; d.each_value('/a') { |v| p v }; d.each_leaf { |l| p l.fetch }; p d.size }
begin
  Oj.default_options = {indent: 30}
  p Oj.default_options[:indent]
rescue ArgumentError => e
  p e.message
end
E`,
		does: "writes and reads JSON by each of its interfaces; an indentation out of range",
	},
	{
		source: "unzip", modules: "bin/unzip", program: "/usr/bin/unzip", args: "-o -X in.zip",
		input: `base64 -d >in.zip <<E
UEsDBBQAAAAAAAAAIVCBM4zCLAEAACwBAAAFAA8AYS50eHR1eAsAAQQAAAAABAAAAABoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpoZWxsbwpQSwMEFAAAAAgAAAAhUIEzjMIMAAAALAEAAAUADwBiLnR4dHV4CwABBAAAAAAEAAAAAMtIzcnJ58oYJYkgAVBLAwQUAAAACAAAACFQHwjqRgQAAAACAAAACQAJAHN1Yi9jLnR4dHV4BQABQAAAAKvgAgBQSwMEFAAAAAgAAAAhUB8I6kYEAAAAAgAAAAUARABkLnR4dGNNQABkWmlwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAq+ACAFBLAQIUAxQAAAAAAAAAIVCBM4zCLAEAACwBAAAFAA8AAAAAAAAAAACkAQAAAABhLnR4dHV4CwABBAAAAAAEAAAAAFBLAQIUAxQAAAAIAAAAIVCBM4zCDAAAACwBAAAFAA8AAAAAAAAAAACkAV4BAABiLnR4dHV4CwABBAAAAAAEAAAAAFBLAQIUAxQAAAAIAAAAIVAfCOpGBAAAAAIAAAAJAAkAAAAAAAAAAACkAZwBAABzdWIvYy50eHR1eAUAAUAAAABQSwECFAMUAAAACAAAACFQHwjqRgQAAAACAAAABQBEAAAAAAAAAAAApAHQAQAAZC50eHRjTUAAZFppcAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAFBLBQYAAAAABAAEADsBAAA7AgAAAAA=
E`,
		does: "unpacks files with times, owners and SmartZip fields",
	},
	{
		source: "vips", modules: "libvips.so.42.16.1", program: "/usr/bin/vips", args: "copy in.mat out.csv",
		input: `printf '3 2 1 0\n1 2 3\n4 5 6\n' >in.mat`,
		does:  "reads a matrix",
	},
	{
		source: "vips", modules: "libvips.so.42.16.1", program: "/usr/bin/vips", args: "unpremultiply in.ppm out.raw --alpha-band 1",
		input: `echo P3 4 2 255 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 >in.ppm`,
		does:  "divides colours by an alpha band",
	},
	{
		source: "xz-utils", modules: "liblzma.so.5.4.1", program: "/usr/bin/xz", args: "-d -k numbers.xz",
		input: `seq 1 30000 | xz >numbers.xz`,
		does:  "unpacks a file",
	},
	{
		source: "xz-utils", modules: "bin/lzmadec", program: "/usr/bin/lzmadec", args: "numbers.lzma",
		input: `seq 1 30000 | xz --format=lzma >numbers.lzma`,
		does:  "unpacks a file",
	},
	{
		source: "zip", modules: "bin/zip", program: "/usr/bin/zip", args: "-X -r out.zip in",
		input: `mkdir in; seq 1 5000 >in/a; touch -d @1000000000 in/a in`,
		does:  "packs a file and a folder",
	},
}

const (
	// rubyLibrary is where Ruby finds its library.
	rubyLibrary = "RUBYLIB={/usr/lib/ruby/3.1.0}:{/usr/lib/x86_64-linux-gnu/ruby/3.1.0}:{/usr/lib/ruby/vendor_ruby}"
	// magick is where ImageMagick finds its modules and settings.
	magick = "MAGICK_CODER_MODULE_PATH={/usr/lib/x86_64-linux-gnu/ImageMagick-6.9.11/modules-Q16/coders}" +
		" MAGICK_CONFIGURE_PATH={/usr/lib/x86_64-linux-gnu/ImageMagick-6.9.11/config-Q16}"
)
