package kafka

import "strings"

// Metadata is what is committed beside a group's offset: the log (the topic's id) that
// the offset belongs to, so that a topic which was deleted and made again is found out
// (rule A2-1). more, which may be empty, is the committer's own, and must not begin with
// "log=".
func Metadata(log, more string) string {
	s := logKey + log
	if more != "" {
		s += " " + more
	}
	return s
}

const logKey = "leat log="

// Log undoes Metadata. log is "" when somebody else has committed.
func Log(metadata string) (log, more string) {
	rest, ours := strings.CutPrefix(metadata, logKey)
	if !ours {
		return "", metadata
	}
	log, more, _ = strings.Cut(rest, " ")
	return log, more
}
