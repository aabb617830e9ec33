package libvirttest

// superviseVariable makes a program that links this package the supervisor of a namespace.
const superviseVariable = "POLYVISOR_LIBVIRTTEST_SUPERVISE"

// setup is the first line that a supervisor reads. All lines are JSON.
type setup struct {
	Root  string   // directory to remove if the program that started the supervisor ends without a word
	Tmpfs []string // directories to hide
	Dirs  []string // directories to make then
	Binds []bind
}

type bind struct {
	From, At string
	ReadOnly bool
}

// request is any later line. Start starts a program under a name, and Signal sends it one.
type request struct {
	Name   string
	Start  *program `json:",omitempty"`
	Signal int      `json:",omitempty"`
}

type program struct {
	Path string
	Args []string // without the program's name
	Env  []string
	Log  string // file for what it prints, appended to
}

// event is a line that a supervisor writes: first how the setup went, without a name, then what became of programs.
type event struct {
	Name   string
	Error  string `json:",omitempty"` // the setup, or the start of a program, failed
	Denied bool   `json:",omitempty"` // the setup was not permitted
	Exit   string `json:",omitempty"` // how the program ended
	Signal bool   `json:",omitempty"` // it has been sent
}
