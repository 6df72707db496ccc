package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// messagesFile has an entry for everything that `outboxd run` can complain about.
const messagesFile = "docs/messages.md"

// runs are the folders with the code that `outboxd run` runs.
var runs = []string{
	"checkpoint", "cmd/outboxd", "decode", "event", "internal/config", "internal/encrypt", "internal/monitor", "internal/tracing", "lane", "outbox", "park",
	"relay", "route", "sink", "wal",
}

// inspect shows every node of the code of run to see, with its place.
func inspect(t *testing.T, see func(place string, n ast.Node)) {
	t.Helper()
	root := filepath.Join("..", "..")
	for _, folder := range runs {
		err := filepath.WalkDir(filepath.Join(root, filepath.FromSlash(folder)), func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.Name() == "sinktest", entry.Name() == "testdata":
				return filepath.SkipDir
			case filepath.Ext(path) != ".go", strings.HasSuffix(path, "_test.go"):
				return nil
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err == nil {
				ast.Inspect(file, func(n ast.Node) bool {
					if n != nil {
						see(strings.TrimPrefix(files.Position(n.Pos()).String(), root+"/"), n)
					}
					return true
				})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// called returns the name of the function or method that n calls, and the call; "" for what is no call of a selector.
func called(n ast.Node) (string, *ast.SelectorExpr, []ast.Expr) {
	if call, ok := n.(*ast.CallExpr); ok {
		if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
			return selector.Sel.Name, selector, call.Args
		}
	}
	return "", &ast.SelectorExpr{}, nil
}

// literal returns the text of a constant string, "" for anything else.
func literal(args []ast.Expr) string {
	if len(args) == 0 {
		return ""
	}
	basic, ok := args[0].(*ast.BasicLit)
	if !ok || basic.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(basic.Value)
	if err != nil {
		panic(err) // the parser read it
	}
	return text
}

// spans returns what stands between backquotes in the document.
func spans(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, span := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(document(t, messagesFile), -1) {
		found[span[1]] = true
	}
	return found
}

func TestEveryWarningAndErrorOfTheLogIsInTheDocument(t *testing.T) {
	known, seen := spans(t), 0
	inspect(t, func(place string, n ast.Node) {
		if selector, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"WarnLevel", "ErrorLevel", "FatalLevel", "PanicLevel"}, selector.Sel.Name) {
			t.Errorf("%s: %s: log by Warn() or Error(), which this test understands", place, selector.Sel.Name)
		}
		ends, selector, args := called(n)
		if !slices.Contains([]string{"Msg", "Msgf", "MsgFunc", "Send"}, ends) {
			return
		}
		level := ""
		for begin := selector; ; {
			name, next, _ := called(begin.X)
			if name == "" {
				break
			}
			level, begin = name, next
		}
		if level != "Warn" && level != "Error" && level != "Fatal" && level != "Panic" {
			return
		}
		seen++
		if text := literal(args); ends != "Msg" || text == "" {
			t.Errorf("%s: log a constant message by Msg, and facts as fields", place)
		} else if !known[text] {
			t.Errorf("%s lacks %q of %s", messagesFile, text, place)
		}
	})
	if seen == 0 {
		t.Error("the code logs nothing")
	}
}

// neverSeen are errors that the code handles itself.
var neverSeen = []string{"no more is to be received", "the transaction was not carried out", "stopped", "a layer of settings has no text"}

func TestEveryErrorWithANameIsInTheDocument(t *testing.T) {
	known, seen := spans(t), 0
	inspect(t, func(place string, n ast.Node) {
		value, ok := n.(*ast.ValueSpec)
		if !ok || strings.HasPrefix(place, "cmd/outboxd/demo") || len(value.Values) != 1 || !strings.HasPrefix(strings.ToLower(value.Names[0].Name), "err") {
			return
		}
		name, _, args := called(value.Values[0])
		text, _, _ := strings.Cut(literal(args), ": ")
		if name != "New" || text == "" || slices.Contains(neverSeen, text) {
			return
		}
		seen++
		if !known[text] {
			t.Errorf("%s lacks %q of %s", messagesFile, text, place)
		}
	})
	if seen == 0 {
		t.Error("no error has a name")
	}
}

func TestEveryStepThatFailsIsInTheDocument(t *testing.T) {
	known, seen := spans(t), 0
	steps := regexp.MustCompile(`^(?:checkpoint|lane|outbox|park|relay|sink|wal)/`)
	inspect(t, func(place string, n ast.Node) {
		name, _, args := called(n)
		text := literal(args)
		if name != "Errorf" || !strings.Contains(text, "%w") || !steps.MatchString(place) {
			return
		}
		begin, _, _ := strings.Cut(text, "%")
		if begin = strings.TrimRight(begin, ` :"(`); begin == "" {
			return // the error inside comes first
		}
		seen++
		if !known[begin] {
			t.Errorf("%s lacks %q of %s", messagesFile, begin, place)
		}
	})
	if seen == 0 {
		t.Error("no step fails")
	}
}
