package avrocodec

import (
	"encoding/hex"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fastavro reads what the codec writes, prints it, and writes it again.
const script = `
import sys, io, json
try:
    import fastavro
except ImportError:
    print("no fastavro"); sys.exit(0)
schema = fastavro.parse_schema(json.loads(sys.argv[1]))
raw = bytes.fromhex(sys.argv[2])
f = io.BytesIO(raw)
row = fastavro.schemaless_reader(f, schema)
assert f.read() == b"", "left over"
print(json.dumps(row, default=str, sort_keys=True))
out = io.BytesIO()
fastavro.schemaless_writer(out, schema, row)
print(out.getvalue().hex())
`

func TestFastavroAgrees(t *testing.T) {
	python := os.Getenv("LEAT_PYTHON")
	if python == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("LEAT_PYTHON is not set: it is a Python with fastavro")
		}
		t.Skip("LEAT_PYTHON is not set: set it to a Python with fastavro")
	}
	schema, err := Derive[ancha]("com.acme.Ancha")
	require.NoError(t, err)
	k := New(Config[ancha]{Schema: schema})
	row := full()
	b, err := k.Encode(t.Context(), "", nil, &row)
	require.NoError(t, err)
	out, err := exec.Command(python, "-c", script, schema, hex.EncodeToString(b)).CombinedOutput()
	require.NoError(t, err, string(out))
	if strings.HasPrefix(string(out), "no fastavro") {
		if os.Getenv("CI") == "true" {
			t.Fatal("the Python of LEAT_PYTHON has no fastavro")
		}
		t.Skip("the Python of LEAT_PYTHON has no fastavro (pip install fastavro)")
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, 2)
	for _, want := range []string{
		`"id": -9223372036854775808`, `"precio": "9999999999999999.99"`, `"monto": "-12.3456"`, `"uid": "00112233-4455-6677-8899-aabbccddeeff"`,
		`"cuando": "2026-01-02 03:04:05.678901+00:00"`, `"dia": "1969-12-31 23:59:59+00:00"`, `"edad": 7`, `"nota": "nota"`,
		`"primera": {"cantidad": 3, "producto": "p"}`, `"nombre_json": "Jos\u00e9"`, `"dura": -1000000000`,
	} {
		require.Contains(t, lines[0], want)
	}
	require.Equal(t, hex.EncodeToString(b), lines[1])
}
