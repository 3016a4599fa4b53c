// Package own holds a stage, a sink and a source as a user of leat writes them, each with
// the test that holds it against its contract. It links leat and the standard library only.
package own
