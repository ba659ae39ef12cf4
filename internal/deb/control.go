package deb

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// A Field is one field of a control file, in the order and spelling of the
// file. Lines after the first keep the white space they begin with.
type Field struct {
	Name, Value string
}

// Control is the paragraph that describes a package, deb-control(5).
type Control struct {
	Package      string
	Version      string
	Architecture string
	// Source and SourceVersion name the source package; they are Package and
	// Version where the file does not say otherwise.
	Source, SourceVersion string

	Fields []Field
}

// Field is the value of a field, empty when there is none. The case of the
// name does not matter.
func (c *Control) Field(name string) string {
	for _, f := range c.Fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// ParseControl reads a control file of one paragraph, deb-control(5).
func ParseControl(text string) (*Control, error) {
	c := &Control{}
	seen := make(map[string]bool)
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		if line != "" && (line[0] == ' ' || line[0] == '\t') {
			if len(c.Fields) == 0 {
				return nil, errors.New("control file begins with a continuation line")
			}
			c.Fields[len(c.Fields)-1].Value += "\n" + strings.TrimRight(line, " \t\r")
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if key := strings.ToLower(name); !ok || name == "" || strings.ContainsAny(name, " \t") || seen[key] {
			return nil, fmt.Errorf("control file, line %d: %.80q", i+1, line)
		} else {
			seen[key] = true
		}
		c.Fields = append(c.Fields, Field{name, strings.TrimSpace(value)})
	}
	c.Package, c.Version, c.Architecture = c.Field("Package"), c.Field("Version"), c.Field("Architecture")
	for name, v := range map[string]string{"Package": c.Package, "Version": c.Version, "Architecture": c.Architecture} {
		if v == "" {
			return nil, fmt.Errorf("control file without %s", name)
		}
	}
	c.Source, c.SourceVersion = SplitSource(c.Field("Source"), c.Package, c.Version)
	return c, nil
}

// SplitSource reads the Source field "name (version)" of a package: what it
// leaves out, or leaves empty, is the package's own name and version.
func SplitSource(field, pkg, version string) (source, sourceVersion string) {
	name, rest, _ := strings.Cut(field, " (")
	return cmp.Or(name, pkg), cmp.Or(strings.TrimSuffix(rest, ")"), version)
}
