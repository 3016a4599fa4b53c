package lake

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"
)

const (
	leatDir     = "_leat" // the manifest's folder; readers skip names that begin with _
	entryExt    = ".json"
	snapshotExt = ".snapshot.json"
	pendingExt  = ".pending"
	tmpExt      = ".tmp"
	lockExt     = ".lock"
	maxElement  = 255 // bytes that a file system takes as one name

	// nullPartition is the folder of the empty value, as Hive and all that came
	// after it name it.
	nullPartition = "__HIVE_DEFAULT_PARTITION__"
)

// safe marks the bytes that stand for themselves in names of files and folders.
// All others are written %XX, which readers of Hive folders undo.
var safe = func() (t [256]bool) {
	for _, b := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") {
		t[b] = true
	}
	return t
}()

const upperHex = "0123456789ABCDEF"

// appendEscaped appends s with everything unsafe as %XX. A dot at the end is
// escaped too: Windows drops it.
func appendEscaped(dst []byte, s string) []byte {
	for i := range len(s) {
		if b := s[i]; safe[b] && (b != '.' || i < len(s)-1) {
			dst = append(dst, b)
		} else {
			dst = append(dst, '%', upperHex[b>>4], upperHex[b&15])
		}
	}
	return dst
}

// appendLevel appends one level of folders, name=value (rule F6). The value can
// neither end the element nor climb out of it.
func appendLevel(dst []byte, name, value string) ([]byte, error) {
	start := len(dst)
	dst = append(append(dst, name...), '=')
	switch {
	case value == "":
		dst = append(dst, nullPartition...)
	case value == nullPartition || strings.EqualFold(value, "null"): // a text: readers see null where it stands as it is
		dst = append(dst, '%', upperHex[value[0]>>4], upperHex[value[0]&15])
		dst = appendEscaped(dst, value[1:])
	default:
		dst = appendEscaped(dst, value)
	}
	if n := len(dst) - start; n > maxElement {
		return dst[:start], fmt.Errorf("the folder of this %s would have a name of %d bytes; %d is the limit", name, n, maxElement)
	}
	return dst, nil
}

// owner is who writes: a sink of a pipeline. Several may share a lake.
type owner struct {
	Pipeline text `json:"pipeline"`
	Sink     text `json:"sink"`
}

// compactor is the owner of what Compact does. No pipeline has an empty name.
var compactor = owner{Sink: "@compact"}

// id is the owner's part in names of files: readable, and unambiguous by the hash
// at its end.
func (o owner) id() string {
	if o == compactor {
		return "compact"
	}
	sum := sha256.Sum256([]byte(o.Pipeline + "\x00" + o.Sink))
	return short(string(o.Pipeline)) + "." + short(string(o.Sink)) + "." + hex.EncodeToString(sum[:6])
}

func (o owner) String() string {
	if o == compactor {
		return "the compaction"
	}
	return fmt.Sprintf("pipeline %s, sink %s", o.Pipeline, o.Sink)
}

// short is the beginning of a name, as part of a file's name. It has no dot, so that
// no pattern like *.csv* finds files of the manifest.
func short(s string) string {
	b := appendEscaped(nil, s)
	return strings.ReplaceAll(string(b[:min(len(b), 40)]), ".", "-")
}

// lockName is the file that a member has locked while it lives.
func lockName(o owner, member string) string {
	if member == veteran {
		return path.Join(leatDir, o.id()+lockExt)
	}
	return path.Join(leatDir, o.id()+"."+member+lockExt)
}

// recoveryName is the file that is locked by the member that clears up after dead ones.
func recoveryName(o owner) string { return path.Join(leatDir, o.id()+".recovery"+lockExt) }

func entryName(seq int64) string { return path.Join(leatDir, fmt.Sprintf("%016d%s", seq, entryExt)) }

func snapshotName(seq int64) string {
	return path.Join(leatDir, fmt.Sprintf("%016d%s", seq, snapshotExt))
}

// pendingName is a member's one commit that is under way.
func pendingName(o owner, member string) string {
	return path.Join(leatDir, fmt.Sprintf(".%s.%s%s", o.id(), member, pendingExt))
}

// tmpName is a file that is being written. Nobody else has its name, so that a member
// who has been fenced without knowing touches nothing of the new one.
func tmpName(o owner, member string, n int) string {
	return path.Join(leatDir, fmt.Sprintf(".%s.%s-%d%s", o.id(), member, n, tmpExt))
}

// splitOwn tells whose a name in the manifest's folder is, if it is a lock, a temporary
// file or a pending entry of o: ext is lockExt, tmpExt or pendingExt.
func splitOwn(name string, o owner) (member, ext string, ok bool) {
	ext = path.Ext(name)
	name, dotted := strings.CutPrefix(strings.TrimSuffix(name, ext), ".")
	if dotted == (ext == lockExt) {
		return "", "", false
	}
	if ext == lockExt && name == o.id() {
		return veteran, ext, true
	}
	if ext == pendingExt { // version 1: the number of the entry in front
		if seq, ok := strings.CutSuffix(name, "."+o.id()); ok && isNumber(seq) {
			return veteran, ext, true
		}
	}
	member, ok = strings.CutPrefix(name, o.id()+".")
	if !ok {
		return "", "", false
	}
	switch ext {
	case lockExt, pendingExt:
		return member, ext, isMember(member)
	case tmpExt:
		member, n, ok := strings.Cut(member, "-")
		if isNumber(member) { // version 1: the epoch
			member = veteran
		} else {
			ok = ok && isMember(member)
		}
		return member, ext, ok && isNumber(n)
	}
	return "", "", false
}

// seqOf reads the number of an entry or, with snapshotExt, of a snapshot; 0 when
// name is none.
func seqOf(name, ext string) int64 {
	digits, ok := strings.CutSuffix(name, ext)
	if !ok || len(digits) != 16 || !isNumber(digits) {
		return 0
	}
	seq, _ := strconv.ParseInt(digits, 10, 64)
	return seq
}

func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// finalName is the name of a finished file: which pipeline, which entry, and the
// offset of its first row. n tells apart those that would have one name.
func finalName(prefix string, seq int64, first int64, n int, ext string) string {
	name := fmt.Sprintf("%s-%d-%d", prefix, seq, first)
	if n > 1 {
		name += "." + strconv.Itoa(n)
	}
	return name + ext
}

// seqOfFile is the entry in a name of finalName; 0 when name is none of a pipeline's.
func seqOfFile(name, prefix, ext string) int64 {
	rest, ok := strings.CutPrefix(name, prefix+"-")
	seq, first, ok2 := strings.Cut(rest, "-")
	first, ok3 := strings.CutSuffix(first, ext)
	first, n, more := strings.Cut(strings.TrimPrefix(first, "-"), ".") // an offset may be negative
	if !ok || !ok2 || !ok3 || !isNumber(seq) || !isNumber(first) || more && !isNumber(n) {
		return 0
	}
	number, _ := strconv.ParseInt(seq, 10, 64)
	return number
}

// splitFinal takes a name of finalName apart, without its n.
func splitFinal(name string) (stem, ext string) {
	end := strings.LastIndexByte(name, '-') + 1
	digits := func(from int) int {
		for from < len(name) && name[from] >= '0' && name[from] <= '9' {
			from++
		}
		return from
	}
	end = digits(end)
	stem, ext = name[:end], name[end:]
	if strings.HasPrefix(ext, ".") {
		if n := digits(end + 1); n > end+1 && n < len(name) && name[n] == '.' {
			ext = name[n:]
		}
	}
	return stem, ext
}

// renumbered is a name of finalName with the number of another entry.
func renumbered(name string, seq int64) string {
	stem, _ := splitFinal(name)
	end := strings.LastIndexByte(stem, '-')
	if end > 0 && stem[end-1] == '-' { // a negative offset
		end--
	}
	start := strings.LastIndexByte(stem[:max(end, 0)], '-') + 1
	if start == 0 || !isNumber(stem[start:end]) {
		return name
	}
	return stem[:start] + strconv.FormatInt(seq, 10) + name[end:]
}

// filePrefix is the pipeline's part of a file's name. Readers skip files that
// begin with . or _.
func filePrefix(pipeline string) string {
	b := appendEscaped(nil, pipeline)
	if len(b) > 0 && (b[0] == '.' || b[0] == '_') {
		b = append([]byte{'%', upperHex[b[0]>>4], upperHex[b[0]&15]}, b[1:]...)
	}
	if len(b) > 120 {
		b = b[:120]
	}
	return string(b)
}
