package codec

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/leatgo/leat"
)

// Registry is a Confluent-compatible schema registry. Codecs share one, and with it the
// connection. It is safe for concurrent use.
type Registry struct {
	opts []sr.ClientOpt

	once sync.Once
	cl   *sr.Client
	err  error
}

// NewRegistry remembers how to reach a registry; nothing is asked before the first value.
// All of franz-go's options hold: sr.URLs (several are tried in turn), sr.BasicAuth,
// sr.BearerToken, sr.DialTLSConfig, sr.HTTPClient (whose timeout is 5 s by default).
// Without sr.URLs it is http://localhost:8081.
func NewRegistry(opts ...sr.ClientOpt) *Registry { return &Registry{opts: opts} }

// Validate reports options that contradict each other.
func (r *Registry) Validate() error {
	_, err := r.client()
	return err
}

func (r *Registry) client() (*sr.Client, error) {
	r.once.Do(func() {
		if r.cl, r.err = sr.NewClient(r.opts...); r.err != nil {
			r.err = fmt.Errorf("schema registry: %s", redact(r.err.Error()))
		}
	})
	return r.cl, r.err
}

// Schema is a schema with all that it refers to.
type Schema struct {
	ID   int
	Type sr.SchemaType
	Text string

	// Imports are the schemas it refers to, directly or not, each after those that it
	// needs itself.
	Imports []Import
}

// Import is a schema that another one refers to by a name: the full name of an Avro type,
// the path of a .proto file.
type Import struct {
	Name, Text string
}

// maxImports bounds the schemas that one value makes the codec fetch.
const maxImports = 256

// Schema fetches a schema by its id. An id that the registry does not have is a plain error, an
// [UnknownError], and so is a [TooManyError]; anything else is transient. Codecs keep what they make of it, so this is called once
// for each id. The params are franz-go's, such as sr.Format.
func (r *Registry) Schema(ctx context.Context, id int, params ...sr.Param) (Schema, error) {
	cl, err := r.client()
	if err != nil {
		return Schema{}, leat.Transient(err)
	}
	if id < 0 || id > math.MaxInt32 {
		// No registry has given it away, and Confluent's does not answer that it has not got it:
		// it takes the path for none of its own, as if its address were wrong.
		return Schema{}, &UnknownError{ID: id}
	}
	s, err := cl.SchemaByID(sr.WithParams(ctx, params...), id)
	if err != nil {
		if isUnknownSchema(err) {
			return Schema{}, &UnknownError{ID: id}
		}
		return Schema{}, failure(ctx, fmt.Sprintf("schema %d", id), err)
	}
	return r.whole(ctx, id, s, params)
}

// Latest fetches the newest version of a subject. All its errors are transient: it is asked
// for what the program itself is to write.
func (r *Registry) Latest(ctx context.Context, subject string, params ...sr.Param) (Schema, error) {
	cl, err := r.client()
	if err != nil {
		return Schema{}, leat.Transient(err)
	}
	s, err := cl.SchemaByVersion(sr.WithParams(ctx, params...), subject, -1)
	if err != nil {
		return Schema{}, failure(ctx, fmt.Sprintf("the newest schema of the subject %q", subject), err)
	}
	out, err := r.whole(ctx, s.ID, s.Schema, params)
	if many := (*TooManyError)(nil); errors.As(err, &many) {
		err = leat.Transient(err)
	}
	return out, err
}

// Find gives id and version under which the subject has this schema. All its errors are transient.
func (r *Registry) Find(ctx context.Context, subject string, s sr.Schema) (id, version int, err error) {
	cl, err := r.client()
	if err != nil {
		return 0, 0, leat.Transient(err)
	}
	found, err := cl.LookupSchema(ctx, subject, s)
	switch {
	case isUnknown(err):
		return 0, 0, leat.Transient(fmt.Errorf("schema registry: the subject %q has not got the schema that rows are to be written with: register it, or let the codec do it (Register), or write with what is there (Latest)", subject))
	case err != nil:
		return 0, 0, failure(ctx, fmt.Sprintf("looking a schema up in the subject %q", subject), err)
	}
	return found.ID, found.Version, nil
}

// Register gives id and version under which the subject has this schema, and registers it as a new
// version if it has not. All its errors are transient, that of a schema that is not
// compatible with those before it included.
func (r *Registry) Register(ctx context.Context, subject string, s sr.Schema) (id, version int, err error) {
	cl, err := r.client()
	if err != nil {
		return 0, 0, leat.Transient(err)
	}
	// Old registries answer with the id alone, so the version is looked up.
	if _, err := cl.RegisterSchema(ctx, subject, s, -1, -1); err != nil {
		return 0, 0, failure(ctx, fmt.Sprintf("registering a schema in the subject %q", subject), err)
	}
	found, err := cl.LookupSchema(ctx, subject, s)
	if err != nil {
		return 0, 0, failure(ctx, fmt.Sprintf("looking up the schema registered in the subject %q", subject), err)
	}
	return found.ID, found.Version, nil
}

// whole fetches what s refers to, depth first.
func (r *Registry) whole(ctx context.Context, id int, s sr.Schema, params []sr.Param) (Schema, error) {
	out := Schema{ID: id, Type: s.Type, Text: s.Schema}
	// A schema that was deleted is still what the value was written with.
	ctx = sr.WithParams(ctx, append(slices.Clone(params), sr.ShowDeleted)...)
	type version struct {
		subject string
		n       int
	}
	seen := make(map[version]bool)
	var walk func(refs []sr.SchemaReference) error
	walk = func(refs []sr.SchemaReference) error {
		for _, ref := range refs {
			v := version{ref.Subject, ref.Version}
			if seen[v] {
				continue
			}
			if seen[v] = true; len(seen) > maxImports {
				return &TooManyError{ID: id}
			}
			got, err := r.cl.SchemaByVersion(ctx, ref.Subject, ref.Version)
			if err != nil {
				return failure(ctx, fmt.Sprintf("schema %d refers to version %d of %q", id, ref.Version, ref.Subject), err)
			}
			if err := walk(got.References); err != nil {
				return err
			}
			out.Imports = append(out.Imports, Import{Name: ref.Name, Text: got.Schema.Schema})
		}
		return nil
	}
	if err := walk(s.References); err != nil {
		return Schema{}, err
	}
	return out, nil
}

// UnknownError is of a value whose schema the registry does not have: rejected, for no
// retry would help. Codecs ask again after some seconds, for a registry may lag
// behind its leader.
type UnknownError struct{ ID int }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("the schema registry has no schema with the id %d, which the value names", e.ID)
}

// TooManyError is of a schema that refers to more others than are fetched. It is for good.
type TooManyError struct{ ID int }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("the schema %d refers to more than %d others", e.ID, maxImports)
}

func isUnknownSchema(err error) bool {
	var re *sr.ResponseError
	return errors.As(err, &re) && re.StatusCode == 404 && re.ErrorCode == sr.ErrSchemaNotFound.Code
}

func isUnknown(err error) bool {
	var re *sr.ResponseError
	return errors.As(err, &re) && re.StatusCode == 404 &&
		(re.ErrorCode == sr.ErrSchemaNotFound.Code || re.ErrorCode == sr.ErrSubjectNotFound.Code || re.ErrorCode == sr.ErrVersionNotFound.Code)
}
