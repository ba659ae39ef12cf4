package plan

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path"

	"hotpatch/internal/deb"
	"hotpatch/internal/module"
)

// readAll reads and closes a file of at most module.MaxSize bytes.
func readAll(f *os.File) ([]byte, error) {
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, module.MaxSize+1))
	if err == nil && len(b) > module.MaxSize {
		err = fmt.Errorf("%s is larger than %d bytes", f.Name(), module.MaxSize)
	}
	return b, err
}

// Files compares two files: two ELF files, or two .deb packages of which each
// module that both have is compared. It calls each with every outcome.
func Files(oldPath, newPath, tool string, each func(*Build) error) error {
	oldDeb, err := isDeb(oldPath)
	if err != nil {
		return err
	}
	newDeb, err := isDeb(newPath)
	if err != nil {
		return err
	}
	if oldDeb != newDeb {
		return fmt.Errorf("%s and %s: one is a package, the other is not", oldPath, newPath)
	}
	if oldDeb {
		return packages(oldPath, newPath, tool, each)
	}
	var data [2][]byte
	for i, p := range []string{oldPath, newPath} {
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		if data[i], err = readAll(f); err != nil {
			return fmt.Errorf("read %s: %w", p, err)
		}
	}
	b, err := Pair(data[0], data[1], oldPath, newPath, tool)
	if err != nil {
		return err
	}
	return each(b)
}

func isDeb(p string) (bool, error) {
	f, err := os.Open(p)
	if err != nil {
		return false, err
	}
	defer f.Close()
	magic := make([]byte, 8)
	if _, err := io.ReadFull(f, magic); err != nil {
		return false, fmt.Errorf("%s: neither an ELF file nor a .deb package", p)
	}
	switch {
	case string(magic) == "!<arch>\n":
		return true, nil
	case string(magic[:4]) == elf.ELFMAG:
		return false, nil
	}
	return false, fmt.Errorf("%s: neither an ELF file nor a .deb package", p)
}

// packages pairs the modules of two packages by path, or by soname where the
// file's name carries its version.
func packages(oldPath, newPath, tool string, each func(*Build) error) error {
	olds := make(map[string][]byte)
	for e, err := range deb.ELFs(oldPath, deb.Limits{}) {
		if err != nil {
			return fmt.Errorf("read %s: %w", oldPath, err)
		}
		olds[e.Path] = e.Data
		if s := soname(e); s != "" {
			olds[s] = e.Data
		}
	}
	news := make([]deb.ELF, 0, len(olds))
	for e, err := range deb.ELFs(newPath, deb.Limits{}) {
		if err != nil {
			return fmt.Errorf("read %s: %w", newPath, err)
		}
		news = append(news, e)
	}
	found := false
	for _, e := range news {
		old := olds[e.Path]
		if old == nil {
			old = olds[soname(e)]
		}
		if old == nil || !linked(e.Data) {
			continue
		}
		found = true
		b, err := Pair(old, e.Data, e.Path, e.Path, tool)
		if err != nil {
			return err
		}
		if err := each(b); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%s and %s have no program or library in common", oldPath, newPath)
	}
	return nil
}

// linked leaves out relocatable objects and separate debug files.
func linked(data []byte) bool {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return true // let the comparison say what is wrong
	}
	text := f.Section(".text")
	return f.Type != elf.ET_REL && (text == nil || text.Type != elf.SHT_NOBITS)
}

// soname is DT_SONAME with the folder of the file, empty when it has none.
func soname(e deb.ELF) string {
	f, err := elf.NewFile(bytes.NewReader(e.Data))
	if err != nil {
		return ""
	}
	if s, err := f.DynString(elf.DT_SONAME); err == nil && len(s) == 1 {
		return path.Join(path.Dir(e.Path), s[0])
	}
	return ""
}
