package main

// lived is the outcome of the live cycle of one file.
type lived struct {
	State string `json:"state,omitempty"`
}
