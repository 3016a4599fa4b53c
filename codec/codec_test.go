package codec

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/leatgo/leat"
)

func TestHeader(t *testing.T) {
	b := AppendHeader([]byte("x"), 0x01020304)
	require.Equal(t, "x\x00\x01\x02\x03\x04", string(b))
	id, rest, err := CutHeader(append(b[1:], "rest"...))
	require.NoError(t, err)
	require.Equal(t, 0x01020304, id)
	require.Equal(t, "rest", string(rest))
	for _, bad := range []string{"", "\x00\x00\x00\x00", "{\"a\":1}"} {
		_, _, err := CutHeader([]byte(bad))
		require.ErrorContains(t, err, "written without a registry?")
	}
}

func TestSubjects(t *testing.T) {
	require.Equal(t, "t-value", TopicName("t", "r"))
	require.Equal(t, "r", RecordName("t", "r"))
	require.Equal(t, "t-r", TopicRecordName("t", "r"))
}

// What a registry and the client around it say may hold a password; what is passed on does
// not.
func TestRedaction(t *testing.T) {
	for in, want := range map[string]string{
		`unable to GET "http://user:s3cret@host/x": refused`: `unable to GET "http://host/x": refused`,
		"https://a:b@c@host/x":                               "https://host/x",
		"two\nlines\t\x1fhere":                               "two lines here",
		"http://host/x@y":                                    "http://host/x@y",
	} {
		require.Equal(t, want, redact(in))
	}
	long := redact(string(make([]byte, 10_000)))
	require.Less(t, len(long), 400)
}

func TestWhoseFault(t *testing.T) {
	fake := srfake.New()
	defer fake.Close()
	ctx := t.Context()
	r := NewRegistry(sr.URLs(fake.URL()))
	s := sr.Schema{Schema: `"long"`, Type: sr.TypeAvro}
	_, _, err := r.Find(ctx, "s", s)
	require.ErrorContains(t, err, `the subject "s" has not got the schema`)
	require.True(t, leat.IsTransient(err))
	_, err = r.Latest(ctx, "s")
	require.True(t, leat.IsTransient(err))
	id, version, err := r.Register(ctx, "s", s)
	require.NoError(t, err)
	require.Equal(t, 1, version)
	again, version, err := r.Find(ctx, "s", s)
	require.NoError(t, err)
	require.Equal(t, []int{id, 1}, []int{again, version})
	got, err := r.Latest(ctx, "s")
	require.NoError(t, err)
	require.Equal(t, id, got.ID)

	fake.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(409)
		_, _ = fmt.Fprint(w, `{"error_code":409,"message":"incompatible"}`)
		return true
	})
	_, _, err = r.Register(ctx, "s", s)
	require.ErrorContains(t, err, "compatibility level does not allow")
	require.True(t, leat.IsTransient(err))

	gone, cancel := context.WithCancelCause(ctx)
	why := errors.New("why")
	cancel(why)
	_, err = r.Schema(gone, 1)
	require.ErrorIs(t, err, why)
	require.False(t, leat.IsTransient(err))
}

// A value that is none of the registry's, but begins with a zero, names any id: it is at fault
// (rule B1), whatever the registry answers to such a number.
func TestIdsThatNoRegistryGives(t *testing.T) {
	fake := srfake.New()
	defer fake.Close()
	fake.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(404) // Confluent's answer to /schemas/ids/4294967295
		_, _ = fmt.Fprint(w, `{"error_code":404,"message":"HTTP 404 Not Found"}`)
		return true
	})
	r := NewRegistry(sr.URLs(fake.URL()))
	id, _, err := CutHeader([]byte("\x00\xff\xff\xff\xff"))
	require.NoError(t, err)
	_, err = r.Schema(t.Context(), id)
	require.ErrorAs(t, err, new(*UnknownError))
	require.False(t, leat.IsTransient(err))
	_, err = r.Schema(t.Context(), 7)
	require.True(t, leat.IsTransient(err), "the address may be wrong")
}

func TestReferencesThatGoRound(t *testing.T) {
	fake := srfake.New()
	defer fake.Close()
	fake.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = fmt.Fprint(w, `{"schema":"\"long\"","id":1,"version":1,"references":[{"name":"a","subject":"a","version":1}]}`)
		return true
	})
	s, err := NewRegistry(sr.URLs(fake.URL())).Schema(t.Context(), 1)
	require.NoError(t, err)
	require.Len(t, s.Imports, 1)
	n := 0
	fake.ClearInterceptors()
	fake.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		n++
		_, _ = fmt.Fprintf(w, `{"schema":"\"long\"","references":[{"name":"a","subject":"a","version":%d}]}`, n)
		return true
	})
	_, err = NewRegistry(sr.URLs(fake.URL())).Schema(t.Context(), 1)
	require.ErrorContains(t, err, "more than 256 others")
	require.False(t, leat.IsTransient(err), "no retry would help a value that names it")
	_, err = NewRegistry(sr.URLs(fake.URL())).Latest(t.Context(), "s")
	require.ErrorContains(t, err, "more than 256 others")
	require.True(t, leat.IsTransient(err), "rows wait until there is another")
}
