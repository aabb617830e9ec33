package acpi

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tool finds one of ACPICA's programs and returns a function that runs it in
// dir and returns its output.
func tool(t *testing.T, name, dir string) func(args ...string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s (Debian package acpica-tools)", name)
	}
	return func(args ...string) string {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s %v:\n%s", name, args, out)
		return string(out)
	}
}

// write puts each table into a file and returns the file names.
func write(t *testing.T, dir string, c Config) (files []string) {
	tables, err := Build(c)
	require.NoError(t, err)
	for _, e := range tables.Entries[1:] { // the RSDP is not a table to these tools
		name := strings.ToLower(strings.ReplaceAll(e.Signature, " ", "")) + ".dat"
		p := tables.Image[e.Addr-c.Base:][:e.Size]
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), p, 0o600))
		files = append(files, name)
	}
	return files
}

// TestDisassembly: iasl reads every table without complaint, and the DSDT
// compiles again, strictly checked, into the same bytes.
func TestDisassembly(t *testing.T) {
	for _, vcpus := range []int{1, 64} {
		dir := t.TempDir()
		iasl := tool(t, "iasl", dir)
		for _, file := range write(t, dir, machine(vcpus)) {
			out := iasl("-d", file)
			require.NotRegexp(t, `(?i)error|warning|invalid`, out, file)
			require.Regexp(t, `(ASL Output|Formatted output): .* bytes`, out, file)
			dsl, err := os.ReadFile(filepath.Join(dir, strings.TrimSuffix(file, ".dat")+".dsl"))
			require.NoError(t, err)
			require.NotRegexp(t, `(?i)error|warning|invalid|unknown`, string(dsl), file)
		}
		out := iasl("-oa", "-w3", "-p", "again", "dsdt.dsl")
		require.Contains(t, out, "0 Errors, 0 Warnings, 0 Remarks", out)
		ours, err := os.ReadFile(filepath.Join(dir, "dsdt.dat"))
		require.NoError(t, err)
		again, err := os.ReadFile(filepath.Join(dir, "again.aml"))
		require.NoError(t, err)
		require.Equal(t, ours[headerSize:], again[headerSize:])
	}
}

// TestInterpreter loads FADT, MADT and DSDT into ACPICA, the interpreter that
// is also Linux's, and runs what an operating system would run. Its hardware is
// simulated: every register reads as the value of -fv.
func TestInterpreter(t *testing.T) {
	dir := t.TempDir()
	acpiexec := tool(t, "acpiexec", dir)
	write(t, dir, machine(2))
	run := func(registers, commands string) string {
		out := acpiexec("-b", commands, "-fv", registers, "facp.dat", "dsdt.dat", "apic.dat")
		out = strings.ReplaceAll(out, "AcpiSetCurrentResources failed: AE_NOT_FOUND", "") // we have no _SRS
		require.NotRegexp(t, `(?i)error|warning|exception|failed|AE_`, out)
		return out
	}
	out := run("0", `namespace \_SB;evaluate \_S5;resources \_SB.COM1;resources \_SB.GED0;execute \_SB.GED0._EVT 9`)
	require.Contains(t, out, "ACPI: 1 ACPI AML tables successfully acquired and loaded")
	require.Contains(t, out, "[Package] Contains 4 Elements:\n    [Integer] = 0000000000000005\n")
	for _, re := range []string{
		`Address Minimum : 03F8\s+Address Maximum : 03F8\s+Alignment : 01\s+Address Length : 08`,
		`Triggering : Edge\s+Polarity : ActiveHigh\s+Sharing : Exclusive\s+Interrupt Count : 01\s+Interrupt List : 4 `,
		`Type : ResourceConsumer\s+Triggering : Level\s+Polarity : ActiveHigh\s+Sharing : Exclusive`,
		`C001 Device .*\n.*_HID .*"ACPI0007"\n.*_UID .* = 0+1\n`,
	} {
		require.Regexp(t, re, out)
	}
	const notified = `Notify on \[PWRB\] .*Value 0x80`
	require.NotRegexp(t, notified, out, "no event is pending")
	require.Regexp(t, notified, run("1", `execute \_SB.GED0._EVT 9`))
	require.NotRegexp(t, notified, run("0xfe", `execute \_SB.GED0._EVT 9`), "other events")
	require.NotRegexp(t, notified, run("1", `execute \_SB.GED0._EVT 8`), "another interrupt")
}
