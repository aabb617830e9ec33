package rpc

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// Every reply that go-libvirt decodes into something of any length is in the table.
func TestShapesAreComplete(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/digitalocean/go-libvirt").Output()
	require.NoError(t, err)
	dir := strings.TrimSpace(string(out))
	types, replies := map[string]ast.Expr{}, map[shapeOf]string{}
	call := regexp.MustCompile(`^(?:request|requestStream)$`)
	for _, file := range []string{"remote_protocol.gen.go", "qemu_protocol.gen.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, file), nil, 0)
		require.NoError(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSpec:
				types[n.Name.Name] = n.Type
			case *ast.FuncDecl:
				ast.Inspect(n, func(in ast.Node) bool {
					c, ok := in.(*ast.CallExpr)
					if !ok {
						return true
					}
					s, ok := c.Fun.(*ast.SelectorExpr)
					if !ok || !call.MatchString(s.Sel.Name) {
						return true
					}
					number, err := strconv.ParseUint(c.Args[0].(*ast.BasicLit).Value, 10, 32)
					require.NoError(t, err)
					program := ProgramRemote
					if c.Args[1].(*ast.SelectorExpr).Sel.Name == "QEMUProgram" {
						program = ProgramQEMU
					}
					replies[shapeOf{program, uint32(number), TypeReply}] = n.Name.Name + "Ret"
					return true
				})
			}
			return true
		})
	}
	var grows func(e ast.Expr) bool
	grows = func(e ast.Expr) bool {
		switch e := e.(type) {
		case *ast.Ident:
			return e.Name == "string" || e.Name == "TypedParam" || types[e.Name] != nil && grows(types[e.Name])
		case *ast.ArrayType:
			return e.Len == nil || grows(e.Elt)
		case *ast.StructType:
			for _, f := range e.Fields.List {
				if grows(f.Type) {
					return true
				}
			}
		}
		return false
	}
	require.Greater(t, len(replies), 400)
	counted := 0
	for of, name := range replies {
		if ret := types[name]; ret == nil || !grows(ret) {
			assert.NotContains(t, shapes, of, name)
			continue
		}
		counted++
		if assert.Contains(t, shapes, of, name) {
			assert.Equal(t, name, shapes[of].Name())
		}
	}
	for of := range shapes {
		if of.typ == TypeMessage {
			assert.True(t, hasCallback(of.program, of.procedure), "%v", of)
			counted++
		}
	}
	assert.Len(t, shapes, counted)
}

// No reply makes go-libvirt believe in more elements than have come.
func TestCountsThatDoNotFit(t *testing.T) {
	for of, typ := range shapes {
		h := Header{Program: of.program, Procedure: of.procedure, Type: of.typ}
		assert.ErrorIs(t, fits(h, nil), ErrProtocol, typ.Name())
		for at := range 32 { // the count may stand behind other fields
			payload := make([]byte, 128)
			copy(payload[4*at:], []byte{0x7f, 0xff, 0xff, 0xff})
			r := xdr.NewReader(payload)
			walk(r, typ)
			assert.Equal(t, r.Err() != nil, fits(h, payload) != nil)
		}
		payload := []byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}
		if k := typ.Field(0).Type.Kind(); k == reflect.Slice || k == reflect.String {
			assert.ErrorIs(t, fits(h, payload), ErrProtocol, typ.Name())
		}
	}
}
