//! Programs that try to do harm or to leave something behind. Each prints ESCAPED where it succeeds; each runs with all
//! layers, without the system call filter, and without Landlock, and afterwards no process and no file of it is there.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Trial;
use llama_pro_sandbox::Sandbox;

use crate::{completes, drivers, is_driver, is_there, run, sandboxes, trial};

/// What the programs are told of the world outside: where a secret lies, where someone listens, who to kill.
struct Outside {
    folder: tempfile::TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
    unix: UnixListener,
    name: String,
}

const SECRET: &str = "the secret of the host";

impl Outside {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), SECRET).unwrap();
        let name = format!("llama-pro-sandbox-test-{}", std::process::id());
        let unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        unix.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        Self { folder, tcp, udp, unix, name }
    }

    fn fill(&self, code: &str) -> String {
        let secret = self.folder.path().join("secret");
        let lines = [
            format!("SECRET = {:?}", secret.display().to_string()),
            format!("TCP = {}", self.tcp.local_addr().unwrap().port()),
            format!("UDP = {}", self.udp.local_addr().unwrap().port()),
            format!("ABSTRACT = '\\0{}'", self.name),
            format!("HOST = {}", std::process::id()),
            "import os, sys".to_owned(),
            "def tried(*calls):\n    for call in calls:\n        try:\n            call()\n            print('ESCAPED', call.__code__.co_firstlineno, flush=True)\n        except BaseException as error:\n            print(type(error).__name__, error, flush=True)".to_owned(),
            "def syscall(name, *rest):\n    import ctypes\n    numbers = {'x86_64': dict(ptrace=101, unshare=272, mount=165, setuid=105, keyctl=250, bpf=321, io_uring_setup=425, process_vm_readv=310, memfd_create=319, shmget=29, mq_open=240, settimeofday=164, pivot_root=155, chroot=161, setns=308, personality=135, userfaultfd=323, perf_event_open=298, kexec_load=246, init_module=175, pidfd_open=434, pidfd_getfd=438, swapon=167, reboot=169, clone3=435, socket=41),\n        'aarch64': dict(ptrace=117, unshare=97, mount=40, setuid=146, keyctl=219, bpf=280, io_uring_setup=425, process_vm_readv=270, memfd_create=279, shmget=194, mq_open=180, settimeofday=170, pivot_root=41, chroot=51, setns=268, personality=92, userfaultfd=282, perf_event_open=241, kexec_load=104, init_module=105, pidfd_open=434, pidfd_getfd=438, swapon=224, reboot=142, clone3=435, socket=198)}\n    libc = ctypes.CDLL(None, use_errno=True)\n    result = libc.syscall(numbers[os.uname().machine][name], *rest)\n    if result < 0: raise OSError(ctypes.get_errno(), name)\n    return result".to_owned(),
        ];
        format!("{}\n{code}\n", lines.join("\n"))
    }

    /// Nothing came in, nothing was changed.
    fn check(&self, name: &str) {
        assert!(self.tcp.accept().is_err(), "{name}: a connection came in");
        assert!(self.udp.recv(&mut [0; 16]).is_err(), "{name}: a datagram came in");
        assert!(self.unix.accept().is_err(), "{name}: a connection to the abstract socket came in");
        let files: Vec<PathBuf> =
            fs::read_dir(self.folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(files, [self.folder.path().join("secret")], "{name}");
        assert_eq!(fs::read_to_string(&files[0]).unwrap(), SECRET, "{name}");
        for folder in ["", "/tmp", "/usr", "/etc", "/work", "/dev/shm"] {
            let place = format!("{folder}/escaped");
            assert!(!is_there(place.as_ref()), "{name}: {place} is there");
        }
    }
}

/// Name and code.
const ESCAPES: &[(&str, &str)] = &[
    ("fork_bomb", "
count = 0
while count < 1000:
    try:
        os.fork()
        count += 1
    except OSError: pass
"),
    ("fork_bomb_is_stopped_at_the_limit", "
import time
made = 0
for _ in range(100):
    try: pid = os.fork()
    except OSError: break
    if pid == 0: time.sleep(30); os._exit(0)
    made += 1
print('ESCAPED' if made > 10 else 'stopped', made)
"),
    ("thread_bomb", "
import threading, time
made = 0
for _ in range(200):
    try: threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    except RuntimeError: break
    made += 1
print('ESCAPED' if made > 10 else 'stopped', made, flush=True)
os._exit(0)
"),
    ("daemon", "
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import signal, time
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        for fd in range(3): os.close(fd)
        while True: time.sleep(0.01)
    os._exit(0)
"),
    ("sleeps_for_ever", "import time\nwhile True: time.sleep(1000)"),
    ("waits_for_input", "print('ESCAPED' if sys.stdin.read() else 'nothing')\ninput()"),
    ("closes_its_outputs", "os.closerange(0, 256)\nwhile True: pass"),
    ("output_without_end", "while True: print('x' * 65536)"),
    ("errors_without_end", "while True: sys.stderr.write('x' * 65536)"),
    ("ten_gigabytes_of_memory", "tried(lambda: bytearray(10 << 30))"),
    ("ten_gigabytes_in_small_pieces", "
parts = []
tried(lambda: [parts.append(bytearray(1 << 20)) for _ in range(10 << 10)])
"),
    ("memory_in_many_processes", "
for _ in range(20):
    try:
        if os.fork() == 0: break
    except OSError: break
parts = [bytearray(b'x' * (64 << 20)) for _ in range(40)]
print('ESCAPED')
"),
    ("raises_its_limits", "
import resource
raised = lambda name: lambda: resource.setrlimit(name, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
tried(*[raised(getattr(resource, name)) for name in ('RLIMIT_AS', 'RLIMIT_NPROC', 'RLIMIT_CPU', 'RLIMIT_FSIZE', 'RLIMIT_NOFILE')])
"),
    ("a_file_of_ten_gigabytes", "
def write():
    with open('big', 'wb') as file:
        for _ in range(10 << 10): file.write(b'x' * (1 << 20))
def sparse():
    with open('sparse', 'wb') as file: file.truncate(10 << 30)
tried(write, sparse)
"),
    ("many_files", "
def many():
    for i in range(100000): open(str(i), 'w').close()
def full():
    for i in range(20):
        with open('f%d' % i, 'wb') as file: file.write(b'x' * (10 << 20))
tried(many, full)
"),
    ("many_open_files", "keep = []\ntried(lambda: [keep.append(open('/dev/null')) for _ in range(2000)])"),
    ("unbounded_recursion", "def f(): f()\ntried(f)"),
    ("recursion_until_the_stack_ends", "
sys.setrecursionlimit(10 ** 9)
def f(x): return f([x])
f(0)
print('ESCAPED')
"),
    ("reads_the_host", "
def has(path): return lambda: os.stat(path)
tried(*[has(path) for path in (SECRET, '/etc/shadow', '/etc/hostname', '/root' '/.bashrc', '/home', '/var', '/opt', '/run', '/sys', '/boot', '/srv', '/mnt', '/media')])
tried(lambda: open(SECRET).read())
if os.path.exists('/root') and [name for name in os.listdir('/root') if name != '.pyenv']: print('ESCAPED')
if 'root' in open('/etc/passwd').read(): print('ESCAPED')
"),
    ("reads_the_environment", "
known = {'PYTHONHASHSEED', 'LC_ALL', 'HOME', 'TMPDIR', 'PATH', 'LC_CTYPE'}
if set(os.environ) - known: print('ESCAPED', set(os.environ))
tried(lambda: open('/proc/self/environ').read(), lambda: open('/proc/1/environ').read(), lambda: os.listdir('/proc/self'))
"),
    ("sees_the_host", "
if os.uname().nodename != 'sandbox': print('ESCAPED', os.uname())
if os.getuid() != 1000 or os.getpid() > 100 or os.getppid() not in (0, 1): print('ESCAPED', os.getpid(), os.getppid())
"),
    ("writes_outside", "
def write(path): return lambda: open(path, 'w').write('x')
places = ['/escaped', '/usr/escaped', '/etc/escaped', '/dev/escaped', '/dev/shm/escaped', '/driver.pyc', '/etc/passwd', os.path.dirname(SECRET) + '/escaped', SECRET, os.__file__, sys.executable]
tried(*[write(path) for path in places])
tried(lambda: os.mkdir('/escaped'), lambda: os.remove('/driver.pyc'), lambda: os.rename('/work', '/escaped'), lambda: os.chmod('/usr', 0o777), lambda: os.chmod('/', 0o777))
"),
    ("links_out_of_its_folder", "
os.symlink(SECRET, 'link')
os.symlink('/etc', 'etc')
tried(lambda: open('link').read(), lambda: open('link', 'w'), lambda: open('etc/escaped', 'w'), lambda: os.link('/etc/passwd', 'hard'), lambda: os.link('/driver.pyc', 'hard'))
tried(lambda: os.stat('../../../../../../' + SECRET), lambda: os.stat('/usr/../..' + SECRET))
"),
    ("races_a_link", "
import time
os.mkdir('real')
open('real/escaped', 'w').close()
if os.fork() == 0:
    while True:
        try:
            os.symlink('/usr', 'swap'); os.rename('swap', 'name'); os.symlink('real', 'swap'); os.rename('swap', 'name')
        except OSError: pass
end = time.time() + 0.5
while time.time() < end:
    try:
        with open('name/escaped', 'w') as file: file.write('x')
        with open('name/bin/escaped', 'w') as file: print('ESCAPED')
    except OSError: pass
"),
    ("connects_out", "
import socket
def tcp(host, port): return lambda: socket.create_connection((host, port), 1)
def udp(host, port): return lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (host, port))
tried(tcp('127.0.0.1', TCP), tcp('1.1.1.1', 53), tcp('::1', TCP), udp('127.0.0.1', UDP), udp('8.8.8.8', 53))
def abstract():
    socket.socket(socket.AF_UNIX).connect(ABSTRACT)
tried(abstract, lambda: socket.getaddrinfo('example.com', 80), lambda: socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock'))
"),
    ("opens_raw_sockets", "
import socket
tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1), lambda: socket.socket(17, socket.SOCK_RAW, 3))
tried(lambda: socket.socket(socket.AF_INET).bind(('0.0.0.0', 80)))
"),
    ("kills_its_parents", "
import signal
for pid in (0, os.getppid(), 1, HOST, HOST - 1, HOST + 1):
    for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGINT):
        try: os.kill(pid, number) if pid else None
        except OSError as error: print(error)
tried(lambda: os.kill(HOST, 0) if HOST > 100 else 1 / 0)
"),
    ("kills_everything", "
import signal
try: os.kill(-1, signal.SIGKILL)
except OSError as error: print(error)
"),
    ("traces_the_host", "
ATTACH, SEIZE = 16, 0x4206
tried(lambda: syscall('ptrace', ATTACH, HOST, 0, 0), lambda: syscall('ptrace', SEIZE, HOST, 0, 0))
"),
    ("enters_namespaces", "
tried(lambda: syscall('unshare', 0x20000), lambda: syscall('mount', 0, b'/usr', 0, 32, 0), lambda: syscall('chroot', b'/work'), lambda: syscall('pivot_root', b'/', b'/'), lambda: syscall('setns', 0, 0))
"),
    ("becomes_root", "
import ctypes
tried(lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.seteuid(0), lambda: os.setgroups([0]), lambda: syscall('setuid', 0))
open('sh', 'wb').write(b'#!/bin/sh')
def setuid_file():
    os.chmod('sh', 0o4755)
    os.execv('./sh', ['sh'])
tried(setuid_file, lambda: os.execv('/usr/bin/su', ['su']), lambda: os.execv('/usr/bin/sudo', ['sudo', 'id'])) if os.path.exists('/nowhere') else tried(setuid_file)
"),
    ("makes_devices", "
import stat
tried(lambda: os.mknod('disk', 0o666 | stat.S_IFBLK, os.makedev(254, 0)), lambda: os.mknod('mem', 0o666 | stat.S_IFCHR, os.makedev(1, 1)))
tried(*[(lambda path: lambda: open(path, 'rb'))(path) for path in ('/dev/mem', '/dev/kmsg', '/dev/sda', '/dev/vda', '/dev/tty', '/dev/ptmx', '/dev/fuse', '/dev/kvm')])
"),
    ("runs_what_it_wrote", "
open('tool', 'w').write('#!/bin/sh\\necho ESCAPED\\n')
os.chmod('tool', 0o755)
tried(lambda: os.execv('./tool', ['tool']))
def library():
    import ctypes
    import shutil
    shutil.copy('/usr/lib/os-release', 'x.so')
    ctypes.CDLL('./x.so')
tried(library)
"),
    ("sets_the_clock", "
import time
tried(lambda: time.clock_settime(time.CLOCK_REALTIME, 0), lambda: syscall('settimeofday', 0, 0) and 1 / 0)
" ),
    ("sets_priorities", "tried(lambda: os.nice(-5), lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))"),
    ("changes_the_kernel", "
tried(lambda: syscall('init_module', 0, 0, b''), lambda: syscall('kexec_load', 0, 0, 0, 0), lambda: syscall('swapon', b'/work', 0), lambda: syscall('reboot', 0xfee1dead, 672274793, 0, 0))
tried(lambda: open('/proc/sys/kernel/core_pattern', 'w'), lambda: open('/proc/sysrq-trigger', 'w'), lambda: open('/sys/kernel/debug', 'w'))
tried(lambda: os.sethostname('escaped')) if hasattr(os, 'sethostname') else None
import socket
tried(lambda: socket.sethostname('escaped'))
"),
    ("dumps_its_memory", "os.abort()"),
    ("leaves_files_for_the_next", "
print('ESCAPED' if os.listdir('.') else 'empty')
open('escaped', 'w').write('x')
open('/tmp/escaped2', 'w').write('x')
"),
    ("ignores_signals_and_spins", "
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
try: os.fork(); os.setsid()
except OSError: pass
while True: pass
"),
    ("inherits_descriptors", "
import stat
kinds = []
for fd in range(256):
    try: kinds.append((fd, stat.S_IFMT(os.fstat(fd).st_mode)))
    except OSError: pass
strange = [kind for kind in kinds if kind[1] not in (stat.S_IFIFO, stat.S_IFCHR)]
print('ESCAPED' if strange or len(kinds) > 5 else 'few', kinds)
"),
    ("runs_other_programs", "
import subprocess
# Where they can run at all, they are in the same place.
for command in ('id -u; cat ' + SECRET, 'ps aux', 'ls /proc', 'mount'):
    try: print(subprocess.run(['/bin/sh', '-c', command], stdin=-3, capture_output=True, timeout=1).stdout)
    except Exception as error: print(error)
os.system('cp /bin/sh ' + os.path.join('/work', 'escaped'))
try: os.posix_spawn('/bin/sh', ['sh', '-c', 'echo x > /escaped'], {})
except OSError as error: print(error)
"),
];

/// What the filter alone refuses: the checking process, which has the same user, and attack surface of the kernel.
const FILTERED: &[(&str, &str)] = &[
    ("traces_the_checking_process", "
ATTACH, SEIZE = 16, 0x4206
tried(lambda: syscall('ptrace', ATTACH, 1, 0, 0), lambda: syscall('ptrace', SEIZE, 1, 0, 0))
"),
    ("parts_of_the_kernel_that_python_does_not_need", "
tried(lambda: syscall('bpf', 0, 0, 0), lambda: syscall('io_uring_setup', 1, 0), lambda: syscall('keyctl', 0, 0, 0))
tried(lambda: syscall('userfaultfd', 1), lambda: syscall('perf_event_open', 0, 0, -1, -1, 0), lambda: syscall('memfd_create', b'x', 0))
tried(lambda: syscall('shmget', 0, 4096, 0o1600), lambda: syscall('mq_open', b'x', 66, 0o600, 0), lambda: syscall('socket', 16, 3, 0))
tried(lambda: syscall('process_vm_readv', 1, 0, 0, 0, 0, 0), lambda: syscall('pidfd_open', 1, 0), lambda: syscall('pidfd_getfd', 3, 3, 0))
tried(lambda: syscall('personality', 0x0040000))
import fcntl, termios
tried(lambda: fcntl.ioctl(1, termios.TIOCSTI, b'x'), lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
"),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut all: Vec<Trial> = Vec::new();
    for (list, with_filter_only) in [(ESCAPES, false), (FILTERED, true)] {
        for (name, code) in list {
            all.push(trial(&format!("escape::{name}"), move || escape(name, code, with_filter_only)));
        }
    }
    all.push(trial("nothing_is_left_when_the_host_dies", orphan));
    all
}

fn escape(name: &str, code: &str, with_filter_only: bool) {
    let outside = Outside::new();
    let mut sandboxes = sandboxes();
    sandboxes.retain(|(layers, _)| !(with_filter_only && *layers == "no system call filter"));
    let attempt = |layers: &str, sandbox: &Sandbox| {
        let mut program = completes(&outside.fill(code));
        program.limits.wall = Duration::from_millis(1500);
        program.limits.memory = 256 << 20;
        let outcome = run(sandbox, program);
        assert!(!outcome.stdout.contains("ESCAPED"), "{layers}: {outcome:?}");
        assert!(!outcome.stdout.contains(SECRET), "{layers}: {outcome:?}");
        assert!(!outcome.stdout.contains("NameError"), "the test itself is wrong: {outcome:?}");
        assert!(outcome.wall < Duration::from_secs(8), "{layers}: {outcome:?}");
        assert!(outcome.stdout.len() <= 64 << 10 && outcome.stderr.len() <= 64 << 10);
        // The sandbox is as good as before.
        assert_eq!(run(sandbox, completes("print(6 * 7)")).stdout, "42\n");
    };
    std::thread::scope(|scope| {
        let attempt = &attempt;
        for (layers, sandbox) in sandboxes {
            scope.spawn(move || attempt(layers, sandbox));
        }
    });
    outside.check(name);
    assert!(drivers().is_empty(), "{:?}", drivers());
}

/// A host that is killed while programs run leaves no process behind.
fn orphan() {
    if crate::full().is_none() {
        return;
    }
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing", "--ignored"])
        .env("SANDBOX_TEST_HOST", "1")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while drivers().is_empty() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let found = drivers();
    assert!(!found.is_empty(), "the host ran nothing");
    host.kill().unwrap();
    host.wait().unwrap();
    let left = || found.iter().any(|number| is_driver(*number));
    while left() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!left(), "{found:?}");
}

/// What the host of [`orphan`] does: it runs programs that do not end.
pub(crate) fn run_for_ever() {
    let program = {
        let mut program = completes("import os\nos.fork()\nwhile True: pass");
        program.limits.wall = Duration::from_secs(60);
        program.limits.cpu_seconds = 60;
        program
    };
    if let Some(sandbox) = crate::full() {
        let _ = sandbox.run(&[program]);
    }
}
