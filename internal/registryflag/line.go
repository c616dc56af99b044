package registryflag

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/libcluster/libcluster"
)

// Line is the flags of a command line, and how errors speak of them.
type Line struct{ *pflag.FlagSet }

// Given reports whether a flag is on the command line, and not as --flag=false.
func (l Line) Given(name string) bool {
	return l.Changed(name) && l.Lookup(name).Value.String() != "false"
}

// Label is how a flag is called in messages: -k/--key.
func (l Line) Label(name string) string { return label(l.Lookup(name)) }

func label(flag *pflag.Flag) string {
	name := "--" + flag.Name
	if flag.Shorthand != "" {
		name = "-" + flag.Shorthand + "/" + name
	}
	for _, variable := range flag.Annotations[fromVariable] {
		name += " (" + variable + ")"
	}
	return name
}

// fromVariable annotates a flag whose value an environment variable has given.
const fromVariable = "from"

// SetFrom gives a flag the value of an environment variable, unless that is not set or
// the flag is on the command line. It reports whether it did.
func (l Line) SetFrom(name, variable, value string) (bool, error) {
	if value == "" || l.Changed(name) {
		return false, nil
	}
	flag := l.Lookup(name)
	if err := l.Set(name, value); err != nil {
		return false, fmt.Errorf("%s: %w", variable, l.Syntax(err))
	}
	flag.Annotations = map[string][]string{fromVariable: {variable}}
	return true, nil
}

// Shown is a flag with its value, unless that is secret or goes without saying.
func (l Line) Shown(name string) string {
	flag := l.Lookup(name)
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

// Rules say of flags when they are wrong, and why.
type Rules []struct {
	Flag  string
	Wrong bool
	Why   string
}

// Obey returns the error of the first rule that a given flag breaks.
func (l Line) Obey(rules Rules) error {
	for _, r := range rules {
		if r.Wrong && l.Given(r.Flag) {
			return fmt.Errorf("%s: %s", l.Shown(r.Flag), r.Why)
		}
	}
	return nil
}

// CheckEmpty refuses a flag with an empty value.
func (l Line) CheckEmpty() (err error) {
	l.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed && flag.Value.String() == "" && err == nil {
			err = fmt.Errorf("%s: must not be empty; leave the flag out for its default", label(flag))
		}
	})
	return err
}

// Syntax says in our words what pflag found. Its own repeat the whole argument,
// which may hold a password.
func (l Line) Syntax(err error) error {
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
			"mode":     "direct, planned, exclusive or cooperative",
			"format":   "table, wide or json",
			"signal":   "a signal such as TERM, INT or USR1",
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

// Explain says which flag a field of the library's configuration came from. flagOf has the
// fields' flags.
func (l Line) Explain(err error, flagOf map[string]string) error {
	var wrong *libcluster.ConfigError
	if !errors.As(err, &wrong) {
		return err
	}
	name := flagOf[wrong.Field]
	if l.Lookup(name) == nil {
		return err
	}
	// The library's message begins with the field and its value. The value
	// is kept, as of --nodes it is not the flag'l.
	rule := strings.TrimPrefix(wrong.Err.Error(), wrong.Field)
	if rule, ok := strings.CutPrefix(rule, ": "); ok {
		return fmt.Errorf("%s: %s", l.Shown(name), rule)
	}
	return fmt.Errorf("%s%s", l.Label(name), rule)
}

var forFlags = strings.NewReplacer(
	"EtcdConfig.Endpoints", "-r/--registry",
	"EtcdConfig.CACert", "--cacert",
	"EtcdConfig.Cert and CertKey", "--cert and --cert-key",
	"EtcdConfig.Username and Password", "--user",
	"gossip.Config.Secret", gossipSecretEnv,
	"set Config.Mode to ModePlanned or ModeExclusive", "give --mode planned or exclusive",
	"Config.Mode", "--mode",
	"Config.Partitions", "--partitions",
)

// InFlags says in flags what the library says in fields.
func InFlags(text string) string { return forFlags.Replace(text) }

var inOneLine = strings.NewReplacer("\r", "", ":\n\t", ": ", "\n\t", "; ", "\n", "; ")

// OneLine is an error's message for people: without the package's name, and
// in one line whatever a file's name holds.
func OneLine(err error) string {
	message := strings.TrimPrefix(err.Error(), "libcluster: ")
	message = strings.TrimPrefix(message, "embedded: ")
	return inOneLine.Replace(InFlags(message))
}

// Mode is the value of a flag for the cluster's mode.
type Mode libcluster.Mode

func (m *Mode) String() string { return libcluster.Mode(*m).String() }

// Type is the name of the value's kind.
func (m *Mode) Type() string { return "mode" }

// Set reads the mode.
func (m *Mode) Set(s string) error { return (*libcluster.Mode)(m).UnmarshalText([]byte(s)) }

// Number is the value of a flag for a decimal number: to pflag's own, 010 is 8.
type Number int

func (n *Number) String() string { return strconv.Itoa(int(*n)) }

// Type is the name of the value's kind.
func (n *Number) Type() string { return "number" }

// Set reads the number.
func (n *Number) Set(s string) error {
	v, err := strconv.Atoi(s)
	*n = Number(v)
	return err
}
