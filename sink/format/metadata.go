package format

import (
	"bytes"
	"encoding/json"

	"github.com/tidwall/gjson"
)

// metadata is event_metadata, taken apart.
type metadata struct {
	verbatim    []byte       // what goes into the header as it is; nil when there is nothing, or when appendRest makes it
	object      gjson.Result // the JSON object; does not exist when the column holds none
	traceparent gjson.Result // exist only as strings
	tracestate  gjson.Result
	rest        int // members that are neither
}

// parseMetadata reads the column. Most rows name no trace, and then nothing is copied; with onlyTrace, where object is not asked for, such a column
// is not even parsed.
func parseMetadata(column []byte, onlyTrace bool) metadata {
	text := bytes.TrimSpace(column)
	if len(text) == 0 || string(text) == "{}" || string(text) == "null" {
		return metadata{}
	}
	md := metadata{verbatim: column}
	if onlyTrace && bytes.IndexByte(text, '"') >= 0 && !mayNameTrace(text) || text[0] != '{' || !json.Valid(text) {
		return md
	}
	md.object = gjson.ParseBytes(text)
	md.object.ForEach(func(key, value gjson.Result) bool {
		switch {
		case key.Str == "traceparent" && value.Type == gjson.String:
			md.traceparent = value
		case key.Str == "tracestate" && value.Type == gjson.String:
			md.tracestate = value
		default:
			md.rest++
		}
		return true
	})
	if md.traceparent.Exists() || md.tracestate.Exists() || md.rest == 0 {
		md.verbatim = nil
	}
	return md
}

// mayNameTrace tells whether the text can have a member traceparent or tracestate. With an escape it can always.
func mayNameTrace(text []byte) bool {
	return bytes.IndexByte(text, '\\') >= 0 || bytes.Contains(text, []byte(`"trace`))
}

// appendRest appends the object without the trace.
func (md *metadata) appendRest(b []byte) []byte {
	b = append(b, '{')
	first := true
	md.object.ForEach(func(key, value gjson.Result) bool {
		if value.Type == gjson.String && (key.Str == "traceparent" || key.Str == "tracestate") {
			return true
		}
		if !first {
			b = append(b, ", "...)
		}
		first = false
		b = append(b, key.Raw...)
		b = append(b, ": "...)
		b = append(b, value.Raw...)
		return true
	})
	return append(b, '}')
}

// member returns a member of the object by its exact name.
func (md *metadata) member(name string) (found gjson.Result) {
	md.object.ForEach(func(key, value gjson.Result) bool {
		if key.Str == name {
			found = value
		}
		return !found.Exists()
	})
	return found
}
