package peers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// ReadConfig reads a file as QCluster has it. This is server_a's of three:
//
//	{
//	  "identifier": "server_a",
//	  "listen_host": "localhost",
//	  "listen_port": 7001,
//	  "peers": [
//	    {"host": "localhost", "port": 7002, "identifier": "server_b", "metadata": {"server_port": 8002}},
//	    {"host": "localhost", "port": 7003, "identifier": "server_c", "metadata": {"server_port": 8003}}
//	  ]
//	}
//
// An instance without listen_port has no server, and is a client of its peers; the default of
// listen_host is localhost. These keys may stand beside them: metadata, of this instance;
// data_dir, relative to the file; tls, with the files cert, key and ca, also relative;
// election, such as "300ms"; and patient. [Config] says what they mean. All other keys are the
// application's. A value in metadata that is no string is the text that JSON has for it.
func ReadConfig(file string) (Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("peers: %w", err)
	}
	c := Config{file: file}
	if err := c.parse(text); err != nil {
		return Config{}, fmt.Errorf("peers: %s: %w", file, err)
	}
	return c, nil
}

// object is one of JSON's whose values are read by their keys.
type object map[string]json.RawMessage

// read reads the value of a key into what, if the key is there.
func (o object) read(key, must string, what any) error {
	raw, ok := o[key]
	if !ok || string(raw) == "null" {
		return nil
	}
	if err := json.Unmarshal(raw, what); err != nil {
		return fmt.Errorf("%s: %.60s must be %s", key, raw, must)
	}
	return nil
}

func (c *Config) parse(text []byte) error {
	var top object
	if err := json.Unmarshal(text, &top); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return fmt.Errorf("byte %d: %w", syntax.Offset, err)
		}
		return errors.New("must be an object, such as {\"identifier\": …}")
	}
	host, port, dir, election := "localhost", 0, "", ""
	var entries []json.RawMessage
	var tls object
	for _, field := range []struct {
		key, must string
		into      any
	}{
		{"identifier", "a string", &c.ID},
		{"listen_host", "a string", &host},
		{"listen_port", "a number, 1 to 65535", &port},
		{"data_dir", "a string", &dir},
		{"election", `a duration in a string, such as "300ms"`, &election},
		{"patient", "true or false", &c.Patient},
		{"tls", "an object with cert, key and ca", &tls},
		{"peers", "a list", &entries},
	} {
		if err := top.read(field.key, field.must, field.into); err != nil {
			return err
		}
	}
	if _, ok := top["listen_port"]; ok {
		c.Listen = net.JoinHostPort(host, strconv.Itoa(port))
	}
	if err := c.parseRest(top, tls, election); err != nil {
		return err
	}
	c.DataDir = c.beside(dir)
	if dir == "" && c.ID != "" {
		if filepath.Base(c.ID) != c.ID {
			return fmt.Errorf("data_dir: is missing, and identifier %q cannot be part of a folder's name; name a folder", c.ID)
		}
		c.DataDir = c.beside(c.ID + ".data")
	}
	return c.parsePeers(entries)
}

func (c *Config) parseRest(top, tls object, election string) (err error) {
	if c.Metadata, err = top.metadata(); err != nil {
		return err
	}
	if election != "" {
		if c.Election, err = time.ParseDuration(election); err != nil || c.Election == 0 {
			return fmt.Errorf("election: %q must be a duration, such as \"300ms\"", election)
		}
	}
	for key, file := range map[string]*string{"cert": &c.TLS.Cert, "key": &c.TLS.Key, "ca": &c.TLS.CA} {
		if err := tls.read(key, "a file's name", file); err != nil {
			return fmt.Errorf("tls.%w", err)
		}
		*file = c.beside(*file)
	}
	return nil
}

func (c *Config) parsePeers(entries []json.RawMessage) error {
	if entries == nil { // the key is missing, or its value is null
		return errors.New("peers: is missing; list the other instances, or [] for an instance that is alone")
	}
	for n, raw := range entries {
		peer, err := parsePeer(raw)
		if err != nil {
			return fmt.Errorf("peers[%d]%w", n, err)
		}
		c.Peers = append(c.Peers, peer)
	}
	return nil
}

// parsePeer reads one entry. Its errors begin with the field, as in ".port: …".
func parsePeer(raw json.RawMessage) (peer Peer, err error) {
	var entry object
	if err := json.Unmarshal(raw, &entry); err != nil || entry == nil {
		return peer, fmt.Errorf(": %.60s must be an object with host and port", raw)
	}
	host, port := "", 0
	if err = entry.read("host", "a string", &host); err == nil {
		err = entry.read("port", "a number, 1 to 65535", &port)
	}
	if err == nil {
		err = entry.read("identifier", "a string", &peer.ID)
	}
	if err == nil {
		peer.Metadata, err = entry.metadata()
	}
	switch {
	case err != nil:
		return peer, fmt.Errorf(".%w", err)
	case host == "":
		return peer, errors.New(".host: is missing; give the host at which the peer listens")
	case port < 1 || port > 65535:
		return peer, fmt.Errorf(".port: %d must be 1 to 65535", port)
	}
	peer.Address = net.JoinHostPort(host, strconv.Itoa(port))
	return peer, nil
}

func (o object) metadata() (map[string]string, error) {
	var values object
	if err := o.read("metadata", "an object", &values); err != nil || values == nil {
		return nil, err
	}
	all := make(map[string]string, len(values))
	for key, raw := range values {
		text := ""
		if err := json.Unmarshal(raw, &text); err != nil {
			text = string(raw)
		}
		all[key] = text
	}
	return all, nil
}

// beside returns the path of a file that the configuration's file names.
func (c *Config) beside(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(c.file), name)
}
