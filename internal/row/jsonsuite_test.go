package row

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// suite are the verdicts where RFC 8259 leaves it to the reader: the rule by which the
// text is refused, or "" when it is accepted.
var suite = map[string]string{
	// Well formed, so accepted where the value is passed over or kept; a column whose
	// type can't hold the number refuses it. See suiteNumbers.
	"i_number_double_huge_neg_exp":   "",
	"i_number_huge_exp":              "",
	"i_number_neg_int_huge_exp":      "",
	"i_number_pos_double_huge_exp":   "",
	"i_number_real_neg_overflow":     "",
	"i_number_real_pos_overflow":     "",
	"i_number_real_underflow":        "",
	"i_number_too_big_neg_int":       "",
	"i_number_too_big_pos_int":       "",
	"i_number_very_big_negative_int": "",

	// Half of a pair of surrogates is no character.
	"i_object_key_lone_2nd_surrogate":                RuleUTF8,
	"i_string_1st_surrogate_but_2nd_missing":         RuleUTF8,
	"i_string_1st_valid_surrogate_2nd_invalid":       RuleUTF8,
	"i_string_incomplete_surrogate_and_escape_valid": RuleUTF8,
	"i_string_incomplete_surrogate_pair":             RuleUTF8,
	"i_string_incomplete_surrogates_escape_valid":    RuleUTF8,
	"i_string_invalid_lonely_surrogate":              RuleUTF8,
	"i_string_invalid_surrogate":                     RuleUTF8,
	"i_string_inverted_surrogates_U+1D11E":           RuleUTF8,
	"i_string_lone_second_surrogate":                 RuleUTF8,

	// Text that is not UTF-8 is refused, not mended.
	"i_string_UTF-8_invalid_sequence":         RuleUTF8,
	"i_string_UTF8_surrogate_U+D800":          RuleUTF8,
	"i_string_invalid_utf-8":                  RuleUTF8,
	"i_string_iso_latin_1":                    RuleUTF8,
	"i_string_lone_utf8_continuation_byte":    RuleUTF8,
	"i_string_not_in_unicode_range":           RuleUTF8,
	"i_string_overlong_sequence_2_bytes":      RuleUTF8,
	"i_string_overlong_sequence_6_bytes":      RuleUTF8,
	"i_string_overlong_sequence_6_bytes_null": RuleUTF8,
	"i_string_truncated-utf-8":                RuleUTF8,
	"i_string_UTF-16LE_with_BOM":              RuleSyntax, // its first byte begins no value
	"i_string_utf16BE_no_BOM":                 RuleSyntax,
	"i_string_utf16LE_no_BOM":                 RuleSyntax,

	// More than DefaultDepth. With MaxDepth 501 it is accepted.
	"i_structure_500_nested_arrays": RuleDepth,

	// A source passes over a byte order mark at the start of a file, nowhere else.
	"i_structure_UTF-8_BOM_empty_object": RuleSyntax,
}

// suiteNumbers are the verdicts on the same numbers in a column float64, and int64.
var suiteNumbers = map[string][2]string{
	"i_number_double_huge_neg_exp":   {"", RuleType}, // rounds to 0
	"i_number_huge_exp":              {RuleRange, RuleType},
	"i_number_neg_int_huge_exp":      {RuleRange, RuleType},
	"i_number_pos_double_huge_exp":   {RuleRange, RuleType},
	"i_number_real_neg_overflow":     {RuleRange, RuleType},
	"i_number_real_pos_overflow":     {RuleRange, RuleType},
	"i_number_real_underflow":        {"", RuleType},
	"i_number_too_big_neg_int":       {"", RuleRange}, // rounds to the nearest float64
	"i_number_too_big_pos_int":       {"", RuleRange},
	"i_number_very_big_negative_int": {"", RuleRange},
}

func suiteTexts(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/jsontestsuite/*.json")
	require.NoError(t, err)
	texts := map[string][]byte{
		"n_structure_100000_opening_arrays": bytes.Repeat([]byte("["), 100_000),
		"n_structure_open_array_object":     append(bytes.Repeat([]byte(`[{"":`), 50_000), '\n'),
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		texts[strings.TrimSuffix(filepath.Base(f), ".json")] = b
	}
	require.Len(t, texts, 318)
	return texts
}

// ruleOfJSON is the rule of an error of the decoder; "" of none.
func ruleOfJSON(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	e := new(JSONError)
	require.ErrorAs(t, err, &e)
	require.NotEmpty(t, e.Rule())
	return e.Rule()
}

// TestJSONTestSuite gives each text of the suite to the decoder: as the text of a value,
// as an object in its own right, and inside of a row.
func TestJSONTestSuite(t *testing.T) {
	t.Parallel()
	type fila struct {
		V json.RawMessage `json:"v"`
	}
	skips := NewJSONPlan(mustOf[fila](t), JSONRules{Missing: ZeroMissing}).Decoder()
	for name, text := range suiteTexts(t) {
		s := scanner{data: text, max: DefaultDepth}
		end := s.value(0, 0)
		if end >= 0 {
			if end = s.space(end); end < len(text) {
				end = s.unexpected(end, "the end")
			}
		}
		rule := ""
		if end < 0 {
			rule = ruleOfJSON(t, s.error(0))
		}
		var row fila
		asRow := ruleOfJSON(t, skips.Text(text, unsafe.Pointer(&row)))
		unknown := ruleOfJSON(t, skips.Text([]byte(`{"x":`+string(text)+`}`), unsafe.Pointer(&row)))
		inRow := ruleOfJSON(t, skips.Text([]byte(`{"v":`+string(text)+`}`), unsafe.Pointer(&row)))
		isObject := strings.HasPrefix(strings.TrimLeft(string(text), " \t\r\n"), "{")
		switch name[0] {
		case 'y':
			assert.Empty(t, rule, "%s: %q", name, text)
			assert.Empty(t, unknown, "%s: %q", name, text)
			assert.Empty(t, inRow, "%s: %q", name, text)
			assert.True(t, json.Valid(row.V), "%s: %q", name, text)
			if isObject {
				assert.Empty(t, asRow, "%s: %q", name, text)
			} else {
				assert.Equal(t, RuleType, asRow, "%s: %q", name, text)
			}
		case 'n':
			// What is not JSON is refused everywhere.
			assert.NotEmpty(t, rule, "%s: %.100q", name, text)
			assert.NotEmpty(t, asRow, "%s: %.100q", name, text)
			assert.NotEmpty(t, unknown, "%s: %.100q", name, text)
			assert.NotEmpty(t, inRow, "%s: %.100q", name, text)
		default:
			want, known := suite[name]
			assert.True(t, known, "%s has no verdict", name)
			assert.Equal(t, want, rule, "%s: %.100q", name, text)
			assert.Equal(t, want, inRow, "%s: %.100q", name, text)
		}
	}
}

func TestJSONTestSuiteNumbers(t *testing.T) {
	t.Parallel()
	f := NewJSONPlan(mustOf[one[float64]](t), JSONRules{}).Decoder()
	n := NewJSONPlan(mustOf[one[int64]](t), JSONRules{}).Decoder()
	texts := suiteTexts(t)
	for name, want := range suiteNumbers {
		number := strings.Trim(strings.TrimSpace(string(texts[name])), "[]")
		text := []byte(`{"v":` + number + `}`)
		var a one[float64]
		var b one[int64]
		assert.Equal(t, want[0], ruleOfJSON(t, f.Text(text, unsafe.Pointer(&a))), "%s: %.100q", name, text)
		assert.Equal(t, want[1], ruleOfJSON(t, n.Text(text, unsafe.Pointer(&b))), "%s: %.100q", name, text)
	}
	var row one[json.RawMessage]
	deep := []byte(`{"v":` + string(texts["i_structure_500_nested_arrays"]) + `}`)
	d := NewJSONPlan(mustOf[one[json.RawMessage]](t), JSONRules{MaxDepth: 501}).Decoder()
	require.NoError(t, d.Text(deep, unsafe.Pointer(&row)))
}
