package process

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// forgetStart gives back the memory that holds the code of the program, most of which only its start needed. What is needed
// again the system maps again, from the file. If it cannot be done, nothing is lost but the memory.
//
// Code alone: no page of it was ever written to, as pages of data that is read-only now may have been.
func forgetStart() {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	program, err := os.Executable()
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		if from, to, ok := codeOf(line, program); ok {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}

// codeOf returns where a line of /proc/self/maps, see proc_pid_maps(5), has code of a program.
func codeOf(line, program string) (from, to uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[1] != "r-xp" || !strings.HasSuffix(line, " "+program+"\n") {
		return 0, 0, false
	}
	first, last, _ := strings.Cut(fields[0], "-")
	a, errA := strconv.ParseUint(first, 16, 64)
	b, errB := strconv.ParseUint(last, 16, 64)
	return uintptr(a), uintptr(b), errA == nil && errB == nil && a < b
}
