package config

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// scalar reads one value, strictly: text is not a number and a number is not text. It is false when it reported a problem.
func (r *reader) scalar(n *node, path string, y ast.Node) (any, bool) {
	text, ok := scalarText(n.kind, y)
	if !ok {
		r.problem(y.GetToken(), path, wrongType(n, y))
		return nil, false
	}
	v, err := n.parse(text)
	if err == nil {
		err = n.checkRange(v)
	}
	if err != nil {
		r.problem(y.GetToken(), path, err.Error())
		return nil, false
	}
	return v, true
}

// bare tells whether YAML writes the kind without quotes.
func (k kind) bare() bool { return k == kindInt || k == kindFloat || k == kindBool }

// scalarText returns the value's text when it is of a YAML type that the kind is written in.
func scalarText(k kind, y ast.Node) (string, bool) {
	switch v := y.(type) {
	case *ast.StringNode:
		return v.Value, !k.bare()
	case *ast.LiteralNode:
		return v.Value.Value, !k.bare()
	case *ast.FloatNode:
		return v.GetToken().Value, k == kindFloat
	case *ast.IntegerNode:
		return v.GetToken().Value, k == kindInt || k == kindFloat || k == kindDuration || k == kindSize
	case *ast.BoolNode:
		return v.GetToken().Value, k == kindBool
	default:
		return "", false
	}
}

// wrongType says what is wanted and what was found; a secret is not shown.
func wrongType(n *node, y ast.Node) string {
	_, isText := y.(*ast.StringNode)
	_, isScalar := y.(ast.ScalarNode)
	found := shape(y)
	if n.secret() && isScalar {
		found = "something else"
	}
	mend := ""
	switch {
	case isText && n.kind.bare():
		found = fmt.Sprintf("the text %q", y.GetToken().Value)
		if _, err := n.parse(y.GetToken().Value); err == nil {
			mend = ": remove the quotes"
		}
	case isScalar && (n.kind == kindString || n.secret()):
		mend = ": put it in quotes"
	}
	return fmt.Sprintf("wants %s, got %s%s", n.kind.describe(), found, mend)
}

// shape says in words what a YAML node is. Text is not shown: it may be an address with a password.
func shape(y ast.Node) string {
	switch v := y.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a section"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + v.GetToken().Value
	case *ast.BoolNode:
		return v.GetToken().Value
	case *ast.TagNode:
		return "a value with a tag"
	default:
		return "something else"
	}
}
