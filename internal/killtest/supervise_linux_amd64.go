package killtest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// How it works: the role asks the kernel (seccomp) to hold each of its threads that
// enters one of these calls until the supervisor, which is the test, has answered: go
// on, fail with this error, or nothing because the process is killed meanwhile. Other
// than with strace, calls are counted over all threads and can be told by their file.

// where tells at which argument a call has its file.
type where uint8

const (
	byFD    where = iota // args[0] is a descriptor
	byPath               // args[0] is a path
	byAt                 // args[0], args[1]: a folder's descriptor and a path
	byTwo                // args[0] and args[1] are paths, the second is the new name
	byTwoAt              // args[0..3]
)

type watched struct {
	name string
	at   where
}

var watchedCalls = map[int32]watched{
	unix.SYS_OPEN: {"open", byPath}, unix.SYS_OPENAT: {"openat", byAt}, unix.SYS_CREAT: {"creat", byPath},
	unix.SYS_WRITE: {"write", byFD}, unix.SYS_WRITEV: {"writev", byFD}, unix.SYS_PWRITE64: {"pwrite64", byFD},
	unix.SYS_PWRITEV: {"pwritev", byFD}, unix.SYS_PWRITEV2: {"pwritev2", byFD},
	unix.SYS_FSYNC: {"fsync", byFD}, unix.SYS_FDATASYNC: {"fdatasync", byFD}, unix.SYS_SYNC_FILE_RANGE: {"sync_file_range", byFD},
	unix.SYS_FTRUNCATE: {"ftruncate", byFD}, unix.SYS_FALLOCATE: {"fallocate", byFD},
	unix.SYS_RENAME: {"rename", byTwo}, unix.SYS_RENAMEAT: {"renameat", byTwoAt}, unix.SYS_RENAMEAT2: {"renameat2", byTwoAt},
	unix.SYS_LINK: {"link", byTwo}, unix.SYS_LINKAT: {"linkat", byTwoAt},
	unix.SYS_UNLINK: {"unlink", byPath}, unix.SYS_UNLINKAT: {"unlinkat", byAt}, unix.SYS_RMDIR: {"rmdir", byPath},
	unix.SYS_MKDIR: {"mkdir", byPath}, unix.SYS_MKDIRAT: {"mkdirat", byAt},
	unix.SYS_FCHMOD: {"fchmod", byFD}, unix.SYS_FCHMODAT: {"fchmodat", byAt}, unix.SYS_UTIMENSAT: {"utimensat", byAt},
}

const envSupervised = "LEAT_KILLTEST_SUPERVISED" // the number of the socket to the supervisor

// beSupervised hands the calls of this process to its supervisor.
func beSupervised() {
	fd, err := strconv.Atoi(os.Getenv(envSupervised))
	if err != nil {
		return
	}
	code := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the call's number
	for nr := range watchedCalls {
		code = append(code,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: uint32(nr)},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	code = append(code, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	Must(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC |
		unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags,
		uintptr(unsafe.Pointer(&unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})))
	if errno != 0 {
		fmt.Fprintln(os.Stderr, noSupervision, errno)
		os.Exit(4)
	}
	Must(unix.Sendmsg(fd, []byte{1}, unix.UnixRights(int(listener)), nil, 0))
	Must(unix.Close(int(listener)))
	Must(unix.Close(fd))
}

type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// supervisor answers the calls of one process.
type supervisor struct {
	ours, theirs *os.File
	decide       func(Call) Answer
	kill         func()
	counted      atomic.Int64
	over         chan struct{} // closed when the process is dead
	ended        chan error    // gets one error, or nil
}

func newSupervisor(decide func(Call) Answer) (*supervisor, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &supervisor{ours: os.NewFile(uintptr(pair[0]), "ours"), theirs: os.NewFile(uintptr(pair[1]), "theirs"),
		decide: decide, over: make(chan struct{}), ended: make(chan error, 1)}, nil
}

// start is called when the process runs.
func (s *supervisor) start(kill func()) {
	s.kill = kill
	_ = s.theirs.Close()
	go func() { s.ended <- s.serve() }()
}

// wait is called when the process is dead.
func (s *supervisor) wait() (calls int, err error) {
	close(s.over)
	_ = s.ours.SetReadDeadline(time.Now())
	err = <-s.ended
	return int(s.counted.Load()), err
}

func (s *supervisor) serve() error {
	conn, err := net.FileConn(s.ours)
	_ = s.ours.Close()
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() { // a process that died before it sent anything
		<-s.over
		_ = conn.SetReadDeadline(time.Now())
	}()
	rights := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), rights)
	if err != nil || n == 0 {
		return nil
	}
	msgs, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil {
		return err
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return err
	}
	defer unix.Close(fds[0])
	for {
		ready := []unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}}
		_, err := unix.Poll(ready, 20)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case ready[0].Revents&unix.POLLIN == 0:
			select {
			case <-s.over:
				return nil
			default:
			}
			if ready[0].Revents != 0 {
				return nil
			}
			continue
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fds[0]), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // it was killed meanwhile
		}
		r := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		switch a := s.answer(&n); {
		case a.Kill:
			s.kill()
			continue
		case a.Err != 0:
			r.err, r.flags = -int32(a.Err), 0
		}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fds[0]), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
	}
}

// answer decides about a call that changes a file; all others go on.
func (s *supervisor) answer(n *notification) Answer {
	w := watchedCalls[n.nr]
	c := Call{Name: w.name}
	pid := int(n.pid)
	const creates = unix.O_CREAT | unix.O_TRUNC
	if n.nr == unix.SYS_OPENAT && n.args[2]&creates == 0 || n.nr == unix.SYS_OPEN && n.args[1]&creates == 0 {
		return Answer{}
	}
	switch w.at {
	case byFD:
		c.Path = descriptor(pid, n.args[0])
	case byPath:
		c.Path = pathAt(pid, unix.AT_FDCWD&0xffffffff, n.args[0])
	case byAt:
		c.Path = pathAt(pid, n.args[0], n.args[1])
	case byTwo:
		c.From, c.Path = pathAt(pid, unix.AT_FDCWD&0xffffffff, n.args[0]), pathAt(pid, unix.AT_FDCWD&0xffffffff, n.args[1])
	case byTwoAt:
		c.From, c.Path = pathAt(pid, n.args[0], n.args[1]), pathAt(pid, n.args[2], n.args[3])
	}
	if !filepath.IsAbs(c.Path) || w.at == byFD && n.args[0] <= 2 { // a pipe, an event, what the role says
		return Answer{}
	}
	c.N = int(s.counted.Add(1))
	return s.decide(c)
}

func descriptor(pid int, fd uint64) string {
	name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, int32(fd)))
	return name
}

func pathAt(pid int, dir, at uint64) string {
	name := text(pid, at)
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	base := ""
	if int32(dir) == unix.AT_FDCWD {
		base, _ = os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	} else {
		base = descriptor(pid, dir)
	}
	return filepath.Join(base, name)
}

// text reads a C string of another process.
func text(pid int, at uint64) string {
	buf := make([]byte, unix.PathMax)
	for size := len(buf); size > 0; size /= 2 { // it may end at the end of what is mapped
		n, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &buf[0], Len: uint64(size)}}, []unix.RemoteIovec{{Base: uintptr(at), Len: size}}, 0)
		if end := bytes.IndexByte(buf[:max(n, 0)], 0); end >= 0 {
			return string(buf[:end])
		}
		if err != nil && !errors.Is(err, syscall.EFAULT) {
			return ""
		}
	}
	return ""
}
