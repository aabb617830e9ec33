package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// environment is what figures depend on.
type environment struct {
	Kernel    string `json:"kernel"`
	CPU       string `json:"cpu"`
	CPUs      int    `json:"cpus"`
	VMX       bool   `json:"vmx"`
	SVM       bool   `json:"svm"`
	KVM       string `json:"kvm"` // modules that are there, or why there is no device
	THP       string `json:"thp"`
	MemoryMiB uint64 `json:"memory_mib"`
	Load      string `json:"load"`
	Governor  string `json:"governor,omitempty"`
	Go        string `json:"go"`
}

func lookAround() environment {
	e := environment{
		Kernel: firstLine("/proc/sys/kernel/osrelease"), CPUs: runtime.NumCPU(), Go: runtime.Version(),
		Load:     firstLine("/proc/loadavg"),
		Governor: firstLine("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
	}
	for _, w := range strings.Fields(firstLine("/sys/kernel/mm/transparent_hugepage/enabled")) {
		if strings.HasPrefix(w, "[") {
			e.THP = strings.Trim(w, "[]")
		}
	}
	fields := procFields("/proc/cpuinfo")
	e.CPU = fields["model name"]
	for _, f := range strings.Fields(fields["flags"]) {
		e.VMX = e.VMX || f == "vmx"
		e.SVM = e.SVM || f == "svm"
	}
	var kib uint64
	if _, err := fmt.Sscan(procFields("/proc/meminfo")["MemTotal"], &kib); err == nil {
		e.MemoryMiB = kib >> 10
	}
	modules, _ := filepath.Glob("/sys/module/kvm*")
	for i, m := range modules {
		modules[i] = filepath.Base(m)
	}
	e.KVM = strings.Join(modules, " ")
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		e.KVM = strings.TrimSpace(e.KVM + " (unusable: " + err.Error() + ")")
	} else {
		f.Close()
	}
	return e
}

func (e environment) print(w io.Writer) {
	yes := map[bool]string{true: "yes", false: "no"}
	fmt.Fprintf(w, "kernel %s, %s, %d CPUs, %d MiB, vmx %s, svm %s, KVM modules: %s\n", e.Kernel, e.CPU, e.CPUs, e.MemoryMiB, yes[e.VMX], yes[e.SVM], e.KVM)
	fmt.Fprintf(w, "transparent huge pages: %s, load: %s, %s", e.THP, e.Load, e.Go)
	if e.Governor != "" {
		fmt.Fprintf(w, ", governor %s", e.Governor)
	}
	fmt.Fprintln(w)
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// procFields reads "name : value" lines; of several with one name the first counts.
func procFields(path string) map[string]string {
	m := map[string]string{}
	f, err := os.Open(path)
	if err != nil {
		return m
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		name, value, ok := strings.Cut(s.Text(), ":")
		if name = strings.TrimSpace(name); ok {
			if _, have := m[name]; !have {
				m[name] = strings.TrimSpace(value)
			}
		}
	}
	return m
}
