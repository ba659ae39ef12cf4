package engine

import (
	"encoding/json"
	"slices"
	"strconv"
)

// Names of threads, functions and files may be any bytes, and JSON holds only
// UTF-8: between the worker and who asked it, and in the store, they are
// written as Go writes them.

// Name is a name that JSON brings back as it was.
type Name string

// MarshalText escapes what is not printed as itself.
func (n Name) MarshalText() ([]byte, error) { return []byte(escape(string(n))), nil }

// UnmarshalText undoes MarshalText.
func (n *Name) UnmarshalText(b []byte) error {
	*n = Name(unescape(string(b)))
	return nil
}

func escape(s string) string {
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

// unescape leaves what escape did not write as it is.
func unescape(s string) string {
	if u, err := strconv.Unquote(`"` + s + `"`); err == nil {
		return u
	}
	return s
}

// plain is a Reason without its methods.
type plain Reason

// MarshalJSON writes all texts of a reason as names: they hold some.
func (r Reason) MarshalJSON() ([]byte, error) {
	r.Stack = slices.Clone(r.Stack)
	r.each(escape)
	return json.Marshal(plain(r))
}

// UnmarshalJSON undoes MarshalJSON.
func (r *Reason) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, (*plain)(r)); err != nil {
		return err
	}
	r.each(unescape)
	return nil
}

// each changes all texts.
func (r *Reason) each(f func(string) string) {
	r.Thread, r.Function, r.Module, r.Detail = f(r.Thread), f(r.Function), f(r.Module), f(r.Detail)
	for i, s := range r.Stack {
		r.Stack[i] = f(s)
	}
}
