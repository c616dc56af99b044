package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/libcluster/libcluster"
)

// given reports whether a flag is on the command line, and not as --flag=false.
func (f *flags) given(name string) bool {
	return f.set.Changed(name) && f.set.Lookup(name).Value.String() != "false"
}

// label is how a flag is called in messages: -k/--key.
func label(flag *pflag.Flag) string {
	if flag.Shorthand == "" {
		return "--" + flag.Name
	}
	return "-" + flag.Shorthand + "/--" + flag.Name
}

// shown is a flag with its value, unless that is secret or goes without saying.
func (f *flags) shown(name string) string {
	flag := f.set.Lookup(name)
	value := flag.Value.String()
	_, database := databaseScheme(value)
	switch {
	case name == "user", database, flag.Value.Type() == "bool":
		return label(flag)
	case flag.Value.Type() == "string":
		return fmt.Sprintf("%s %q", label(flag), value)
	default:
		return label(flag) + " " + value
	}
}

// syntax says in our words what pflag found. Its own repeat the whole argument,
// which may hold a password.
func (f *flags) syntax(err error) error {
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown):
		name := "--" + unknown.GetSpecifiedName()
		if unknown.GetSpecifiedShortnames() != "" {
			name = "-" + unknown.GetSpecifiedName()
		}
		return fmt.Errorf("unknown flag %q", name)
	case errors.As(err, &missing):
		return fmt.Errorf("%s: needs a value", label(missing.GetFlag()))
	case errors.As(err, &invalid):
		flag := invalid.GetFlag()
		return fmt.Errorf("%s %q: must be %s", label(flag), invalid.GetValue(), map[string]string{
			"bool":     "true or false",
			"duration": "a duration such as 10s or 1m30s",
			"number":   "a whole number",
			"mode":     "direct, planned or exclusive",
		}[flag.Value.Type()])
	}
	given := "a flag"
	var bad *pflag.InvalidSyntaxError
	if errors.As(err, &bad) {
		given, _, _ = strings.Cut(bad.GetSpecifiedFlag(), "=")
		given = strconv.Quote(given)
	}
	return fmt.Errorf("%s: a flag is -LETTER or --NAME, with its value after a space or '='", given)
}

// explain says which flag a field of the library's configuration came from.
func (o options) explain(err error) error {
	var wrong *libcluster.ConfigError
	if !errors.As(err, &wrong) {
		return err
	}
	name, ok := map[string]string{
		"Key": "key", "Env": "env", "Partition": "partition", "ID": "instance",
		"Workers": "threads", "TTL": "ttl", "Registry": "registry", "Mode": "mode",
	}[wrong.Field]
	if !ok {
		return err
	}
	if name == "registry" && !o.flags.given(name) {
		name = "static-env" // -I and -T have been checked
	}
	// The library's message begins with the field and its value. The value
	// is kept, as of --nodes it is not the flag's.
	rule := strings.TrimPrefix(wrong.Err.Error(), wrong.Field)
	if rule, ok := strings.CutPrefix(rule, ": "); ok {
		return fmt.Errorf("%s: %s", o.flags.shown(name), rule)
	}
	return fmt.Errorf("%s%s", label(o.flags.set.Lookup(name)), rule)
}

// mode is a cluster's mode.
type mode libcluster.Mode

func (m *mode) String() string     { return libcluster.Mode(*m).String() }
func (m *mode) Type() string       { return "mode" }
func (m *mode) Set(s string) error { return (*libcluster.Mode)(m).UnmarshalText([]byte(s)) }

// number is a decimal number: to pflag's own, 010 is 8.
type number int

func (n *number) String() string { return strconv.Itoa(int(*n)) }
func (n *number) Type() string   { return "number" }

func (n *number) Set(s string) error {
	v, err := strconv.Atoi(s)
	*n = number(v)
	return err
}
