package cursor

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func num(i int64) Value   { return Value{Kind: Int, Int: i} }
func text(s string) Value { return Value{Kind: Text, Str: s} }

func place(at int64, key int64) Place { return Place{[]Value{num(at)}, []Value{num(key)}} }

func TestValuesThatAreEqual(t *testing.T) {
	t.Parallel()
	float := func(f float64) Value { return Value{Kind: Float, Float: f} }
	values := []Value{{}, num(0), num(1), num(-1), num(math.MinInt64), float(0.5), float(math.Inf(1)), float(math.Inf(-1)), float(1e300), float(1 << 63),
		text(""), text("1"), text("\x00"), text("a"), {Kind: Blob}, {Kind: Blob, Str: "a"}}
	for i, v := range values {
		for j, w := range values {
			require.Equal(t, i == j, v.Equal(w), "%v, %v", v, w)
			require.Equal(t, i == j, string(v.append(nil)) == string(w.append(nil)), "%v, %v", v, w)
		}
	}
	require.True(t, num(1).Equal(float(1)))
	require.True(t, num(0).Equal(float(math.Copysign(0, -1))))
	require.True(t, num(math.MinInt64).Equal(float(-1<<63)))
	// Sequences are told apart too.
	require.NotEqual(t, Place{[]Value{text("a")}, []Value{text("bc")}}.hash(), Place{[]Value{text("ab")}, []Value{text("c")}}.hash())
}

// same are those values that JSON gives back, NaN being none.
func same(v, w Value) bool {
	return v == w || v.Kind == Float && w.Kind == Float && math.Float64bits(v.Float) == math.Float64bits(w.Float)
}

func FuzzValueJSON(f *testing.F) {
	f.Add(uint8(1), int64(5), 0.0, "")
	f.Add(uint8(2), int64(0), 1.0, "")
	f.Add(uint8(2), int64(0), math.Inf(-1), "")
	f.Add(uint8(2), int64(0), math.Copysign(0, -1), "")
	f.Add(uint8(3), int64(0), 0.0, "a\xff<\u2028")
	f.Add(uint8(4), int64(0), 0.0, "\x00")
	f.Fuzz(func(t *testing.T, kind uint8, i int64, fl float64, s string) {
		v := Value{Kind: Kind(kind % 5)}
		switch v.Kind {
		case Int:
			v.Int = i
		case Float:
			if v.Float = fl; math.IsNaN(fl) {
				t.Skip("NaN is no value")
			}
		case Text, Blob:
			v.Str = s
		}
		js, err := json.Marshal(v)
		require.NoError(t, err)
		var back Value
		require.NoError(t, json.Unmarshal(js, &back), "%s", js)
		require.True(t, same(v, back), "%v became %v by %s", v, back, js)
	})
}

func FuzzValueFromJSON(f *testing.F) {
	for _, s := range []string{"null", "1", "1.5", "1e999", `"a"`, `{"blob":"AA=="}`, `{"text":"/w=="}`, `{"float":"NaN"}`, `{"float":"+Inf"}`, `{"a":1}`, "[]", "true", "99999999999999999999", `{"blob":"!"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, js string) {
		var v, again Value
		if json.Unmarshal([]byte(js), &v) != nil {
			return
		}
		out, err := json.Marshal(v)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(out, &again))
		require.True(t, same(v, again), "%s, %s", js, out)
	})
}

// A state that was taken up again knows what the first one knew.
func TestStateOverRestarts(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		width := []int64{0, 5}[rng.IntN(2)]
		fresh := func() *State {
			return &State{Max: 1000, Width: width, Measure: func(v Value) (int64, error) { return v.Int, nil }}
		}
		s := fresh()
		at, key := int64(0), int64(0)
		var all []Place
		for range 100 {
			if rng.IntN(3) == 0 {
				at += rng.Int64N(3)
			}
			key++
			p := place(at, key)
			all = append(all, p)
			require.NoError(t, s.Ahead(p))
			if late := place(at-rng.Int64N(width+1), -key); rng.IntN(5) == 0 {
				all = append(all, late)
				require.NoError(t, s.Late(late))
			}
			if rng.IntN(4) == 0 {
				text := s.Encode()
				s = fresh()
				require.NoError(t, s.Decode(text, 1, 1), "%s", text)
				require.Equal(t, text, s.Encode())
			}
			for _, p := range all {
				if p.At[0].Int >= at-width {
					require.True(t, s.Seen(p), "seed %d: %v is in the window of %d up to %d", seed, p, width, at)
				}
			}
			require.False(t, s.Seen(place(at, 1000)))
			require.Equal(t, int64(len(all)), s.Rows)
		}
	}
}

func TestFolding(t *testing.T) {
	t.Parallel()
	s := &State{Max: 10}
	for i := range int64(10) {
		require.NoError(t, s.Ahead(place(7, i)))
		require.False(t, s.Folded())
	}
	for i := range int64(1000) {
		require.NoError(t, s.Ahead(place(7, 10+i)))
		require.True(t, s.Folded())
	}
	require.Less(t, len(s.Encode()), 200)
	again := &State{Max: 10}
	require.NoError(t, again.Decode(s.Encode(), 1, 1))
	for _, wrong := range []int64{-1, 0, 500, 1009} {
		var c Check
		for i := range int64(1010) {
			if i != wrong {
				c.Add(place(7, i))
			}
		}
		require.Equal(t, wrong == -1, c.Same(again), "without %d", wrong)
		if wrong >= 0 {
			c.Add(place(7, 5000))
			require.False(t, c.Same(again), "with another one in its place")
		}
	}
	again.Reread()
	require.True(t, again.FromStart(true))
	require.False(t, again.Folded())
	restarted := &State{Max: 10}
	require.NoError(t, restarted.Decode(again.Encode(), 1, 1), "%s", again.Encode())
	require.True(t, restarted.FromStart(true))
	require.Equal(t, again.Encode(), restarted.Encode())

	require.NoError(t, s.Ahead(place(8, 1)))
	require.False(t, s.Folded(), "another value, another beginning")
}

func TestTooMany(t *testing.T) {
	t.Parallel()
	s := &State{Max: 10, Width: 100, Measure: func(v Value) (int64, error) { return v.Int, nil }}
	var err error
	n := int64(0)
	for ; err == nil; n++ {
		err = s.Ahead(place(n, n))
	}
	var many *TooManyError
	require.True(t, errors.As(err, &many))
	require.Equal(t, int64(11), n)
	// What leaves the window makes room.
	s = &State{Max: 10, Width: 3, Measure: func(v Value) (int64, error) { return v.Int, nil }}
	for n := range int64(5000) {
		require.NoError(t, s.Ahead(place(n, n)))
	}
	s = &State{Max: 10, Width: 3, Measure: func(Value) (int64, error) { return 0, errors.New("no number") }}
	require.Error(t, s.Ahead(place(1, 1)))
	require.Error(t, s.Late(place(1, 1)))
}

// The window's floor does not wrap around.
func TestFloor(t *testing.T) {
	t.Parallel()
	s := &State{Max: 10, Width: 3, Measure: func(v Value) (int64, error) { return v.Int, nil }}
	require.NoError(t, s.Ahead(place(math.MinInt64+1, 1)))
	require.Equal(t, int64(math.MinInt64), s.Floor())
	require.True(t, s.Seen(place(math.MinInt64+1, 1)))
}

// What can't be a position is an error, and never a panic.
func FuzzResume(f *testing.F) {
	s := &State{Max: 5, Width: 3, Measure: func(v Value) (int64, error) { return v.Int, nil }}
	for i := range int64(6) {
		if s.Ahead(place(i, i)) != nil {
			f.Fatal()
		}
		f.Add(s.Encode())
	}
	s = &State{Max: 2}
	for i := range int64(4) {
		if s.Ahead(place(1, i)) != nil {
			f.Fatal()
		}
		f.Add(s.Encode())
	}
	f.Add(`{"rows":1,"at":[1],"key":[1],"seen":"AA"}`)
	f.Fuzz(func(t *testing.T, text string) {
		if n := strings.LastIndexByte(text, '#'); n >= 0 {
			text = text[:n]
		}
		text = seal([]byte(text)) // else none would come far
		for _, width := range []int64{0, 3} {
			s := &State{Max: 5, Width: width, Measure: func(v Value) (int64, error) {
				if v.Kind != Int {
					return 0, errors.New("no number")
				}
				return v.Int, nil
			}}
			if s.Decode(text, 1, 1) != nil {
				continue
			}
			again := &State{Max: 5, Width: width, Measure: s.Measure}
			require.NoError(t, again.Decode(s.Encode(), 1, 1), "%s", s.Encode())
			require.Equal(t, s.Encode(), again.Encode())
			_ = s.Ahead(place(100, 1))
		}
		if m, err := DecodeMark(text); err == nil {
			again, err := DecodeMark(m.Encode())
			require.NoError(t, err)
			require.Equal(t, m, again)
		}
	})
}

func TestTail(t *testing.T) {
	t.Parallel()
	var tail Tail
	var keys []int64
	for i := range int64(5000) {
		tail.Add(3 * i)
		keys = append(keys, 3*i)
		m := tail.Mark()
		require.Equal(t, 3*i, m.Last)
		require.GreaterOrEqual(t, m.N, min(int(i)+1, tailRows))
		require.LessOrEqual(t, m.N, 2*tailRows)
		n, sum := Sum(keys[len(keys)-m.N:])
		require.Equal(t, keys[len(keys)-m.N], m.From)
		require.Equal(t, m.N, n)
		require.Equal(t, m.Sum, sum)
	}
	m := tail.Mark()
	var again Tail
	back, err := DecodeMark(m.Encode())
	require.NoError(t, err)
	again.Restore(back)
	require.Equal(t, m, again.Mark(), "until the keys are known")
	again.Keys(m, keys[len(keys)-m.N:])
	require.LessOrEqual(t, again.Mark().N, tailRows)
	again.Add(20_000)
	require.Equal(t, int64(20_000), again.Mark().Last)
	for _, bad := range []string{"", "{}x", `{"last":1,"from":2,"n":1,"sum":0}`, `{"n":-1}`, `{"other":1}`, `{"last":1.5}`} {
		_, err := DecodeMark(seal([]byte(bad)))
		require.Error(t, err, bad)
	}
}

// One flipped bit in a position is found out.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	s := &State{Max: 10}
	require.NoError(t, s.Ahead(place(7, 1)))
	require.NoError(t, s.Ahead(place(7, 2)))
	var tail Tail
	tail.Add(5)
	for _, text := range []string{s.Encode(), tail.Mark().Encode()} {
		for i := range len(text) * 8 {
			b := []byte(text)
			b[i/8] ^= 1 << (i % 8)
			_, err := DecodeMark(string(b))
			require.Error(t, err, "%s", b)
			require.Error(t, new(State).Decode(string(b), 1, 1), "%s", b)
		}
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	for _, v := range []any{1, int32(1), int64(1), uint32(1)} {
		got, err := Of(v)
		require.NoError(t, err)
		require.Equal(t, num(1), got)
	}
	got, err := Of([]byte{1})
	require.NoError(t, err)
	require.Equal(t, Value{Kind: Blob, Str: "\x01"}, got)
	for _, v := range []any{math.NaN(), nil, struct{}{}, uint64(1), true} {
		_, err := Of(v)
		require.Error(t, err, "%v", v)
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	require.Equal(t, `"a\n"`, text("a\n").String())
	require.Less(t, len(text(strings.Repeat("x", 1000)).String()), 80)
	require.Equal(t, "x'00ff'", Value{Kind: Blob, Str: "\x00\xff"}.String())
	require.Equal(t, "NULL", Value{}.String())
	require.Equal(t, "a text", Text.String())
}
