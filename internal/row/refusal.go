package row

// Refusal is why a sink can't store one row, when the words are another error's: it
// adds the column and the rule that statistics count by.
type Refusal struct {
	Column string // "" when it is about the whole row
	Rule   string
	Err    error
}

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the error that has the words.
func (r *Refusal) Unwrap() error { return r.Err }

// Field gives column and rule, as the engine's statistics ask for them.
func (r *Refusal) Field() (column, rule string) { return r.Column, r.Rule }
