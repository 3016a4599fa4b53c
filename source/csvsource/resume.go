package csvsource

import "encoding/json"

// resume is what a position carries beside the offset.
type resume struct {
	Line int64 `json:"line"` // at the offset; 0: not known
}

func (r resume) String() string {
	b, err := json.Marshal(r)
	if err != nil {
		return ""
	}
	return string(b)
}

// parseResume never fails: the offset decides, and an unknown line is counted.
func parseResume(s string) resume {
	var r resume
	if json.Unmarshal([]byte(s), &r) != nil || r.Line < 1 {
		return resume{}
	}
	return r
}
