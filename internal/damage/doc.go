// Package damage holds the tests of what becomes of a pipeline whose files were damaged
// while it was stopped: bits flipped, cut off, emptied, replaced by older copies, deleted.
package damage
