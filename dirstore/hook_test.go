package dirstore

import "time"

// around is what is done around each call of files. It calls do, or returns another error.
type around func(call, name string, do func() error) error

// hooked has something done around each call.
type hooked struct {
	files
	around
}

func (h hooked) read(name string, most int) (data []byte, err error) {
	err = h.around("read", name, func() (err error) {
		data, err = h.files.read(name, most)
		return err
	})
	return data, err
}

// write writes in two steps, so that a process may end between them.
func (h hooked) write(name string, data []byte, sync bool) error {
	err := h.around("write half", name, func() error { return h.files.write(name, data[:len(data)/2], false) })
	if err != nil {
		return err
	}
	return h.around("write", name, func() error {
		if err := h.files.remove(name); err != nil {
			return err
		}
		return h.files.write(name, data, sync)
	})
}

func (h hooked) overwrite(name string, data []byte) error {
	err := h.around("overwrite half", name, func() error { return h.files.overwrite(name, data[:len(data)/2]) })
	if err != nil {
		return err
	}
	return h.around("overwrite", name, func() error { return h.files.overwrite(name, data) })
}

func (h hooked) sync(name string) error {
	return h.around("sync", name, func() error { return h.files.sync(name) })
}

func (h hooked) link(name, another string) error {
	return h.around("link", another, func() error { return h.files.link(name, another) })
}

func (h hooked) modified(name string) (at time.Time, err error) {
	err = h.around("modified", name, func() (err error) {
		at, err = h.files.modified(name)
		return err
	})
	return at, err
}

func (h hooked) remove(name string) error {
	return h.around("remove", name, func() error { return h.files.remove(name) })
}

func (h hooked) list(folder string) (names []string, err error) {
	err = h.around("list", folder, func() (err error) {
		names, err = h.files.list(folder)
		return err
	})
	return names, err
}

func (h hooked) mkdir(name string) error {
	return h.around("mkdir", name, func() error { return h.files.mkdir(name) })
}

func (h hooked) rename(name, another string) error {
	return h.around("rename", another, func() error { return h.files.rename(name, another) })
}
