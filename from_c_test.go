package libcluster_test

import (
	"go/ast"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// original are the calls of the C library's header.
const original = `create destroy join join_passive leave set_verbose key env set_env instance set_instance
	reset_instance partition set_partition index total workers set_workers set_threads state set_registry set_logger
	set_balancer set_fork static_set_index static_set_total`

func TestPageForTheCLibraryHasEachCall(t *testing.T) {
	page, err := os.ReadFile("FROM-C.md")
	require.NoError(t, err)
	for call := range strings.FieldsSeq(original) {
		require.Regexp(t, "`cluster_"+call+"[`(]", string(page))
	}
}

func TestPageForTheCLibraryNamesWhatExists(t *testing.T) {
	page, err := os.ReadFile("FROM-C.md")
	require.NoError(t, err)
	exists := exported(t)
	names := regexp.MustCompile("`([A-Z][a-z][A-Za-z.]*)(?:\\([^`]*\\))?`").FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(names), 20)
	for _, name := range names {
		require.Contains(t, exists, name[1])
	}
}

// exported returns what the root package exports: functions, types and values by their name, methods
// and fields behind that of their type.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	pkg := documentation(t)
	for _, f := range pkg.Funcs {
		names[f.Name] = true
	}
	for _, typ := range pkg.Types {
		names[typ.Name] = true
		for _, f := range typ.Funcs {
			names[f.Name] = true
		}
		for _, f := range typ.Methods {
			names[typ.Name+"."+f.Name] = true
		}
		for _, values := range typ.Consts {
			for _, name := range values.Names {
				names[name] = true
			}
		}
		if s, is := typ.Decl.Specs[0].(*ast.TypeSpec).Type.(*ast.StructType); is {
			for _, field := range s.Fields.List {
				for _, name := range field.Names {
					names[typ.Name+"."+name.Name] = true
				}
			}
		}
	}
	for _, values := range pkg.Vars {
		for _, name := range values.Names {
			names[name] = true
		}
	}
	return names
}
