//! Programs that are wrong and try to be judged right. None of them may pass, whichever layers are there.

use libtest_mimic::Trial;
use llama_pro_sandbox::Sandbox;

use crate::{run, sandboxes, tested, trial};

/// Each gives a wrong answer, and a name.
const FORGERIES: &[(&str, &str)] = &[
    ("prints_a_pass", "print('pass')\nprint('PASSED', flush=True)\ndef answer(): return 41"),
    ("exits_early", "import sys\nsys.exit(0)"),
    ("ends_itself_early", "import os\nos._exit(0)"),
    ("ends_itself_when_asked", "import os\ndef answer(): os._exit(0)"),
    ("raises_system_exit_when_asked", "def answer(): raise SystemExit(0)"),
    ("exits_at_the_end", "import atexit, os\natexit.register(lambda: os._exit(0))\ndef answer(): return 41"),
    (
        "answers_with_an_object_that_equals_everything",
        "class Equal:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n    __hash__ = None\ndef answer(): return Equal()",
    ),
    (
        "answers_with_a_number_that_equals_everything",
        "class Equal(int):\n    def __eq__(self, other): return True\n    __hash__ = None\ndef answer(): return Equal(41)",
    ),
    (
        "answers_with_a_list_that_equals_everything",
        "class Equal(list):\n    def __eq__(self, other): return True\n    __hash__ = None\ndef answer(): return Equal()",
    ),
    (
        "replaces_the_assertion",
        "import builtins\nbuiltins.AssertionError = type('Quiet', (BaseException,), {})\nbuiltins.abs = lambda x: 0\ndef answer(): return 41",
    ),
    (
        "patches_the_driver",
        "import sys\nmain = sys.modules['__main__']\nfor name in list(vars(main)):\n    if callable(getattr(main, name, None)): setattr(main, name, lambda *a, **k: None)\ndef answer(): return 41",
    ),
    (
        "patches_the_codec",
        "import sys\nmain = sys.modules['__main__']\nmain.Codec.loads = lambda self, data: ('v', 42)\nmain.Link.ask = lambda *a: 42\ndef answer(): return 41",
    ),
    (
        "walks_the_frames",
        "import sys\nframe = sys._getframe()\nwhile frame:\n    for name in list(frame.f_locals): frame.f_locals[name] = b'pass'\n    frame = frame.f_back\ndef answer(): return 41",
    ),
    (
        "walks_the_garbage_collector_for_a_nonce",
        "import gc, os, re\nfound = set()\nfor thing in gc.get_objects():\n    try: found.update(re.findall(rb'[0-9a-f]{32}', repr(thing)[:10000].encode()))\n    except Exception: pass\nfor nonce in list(found)[:1000]:\n    text = nonce + b' pass'\n    for fd in range(3, 64):\n        try: os.write(fd, len(text).to_bytes(4, 'little') + text)\n        except OSError: pass\ndef answer(): return 41",
    ),
    (
        "writes_a_pass_to_every_descriptor",
        "import os\nfor fd in range(256):\n    try: os.write(fd, (4).to_bytes(4, 'little') + b'pass')\n    except OSError: pass\ndef answer(): return 41",
    ),
    (
        "answers_before_it_is_asked",
        "import os\nvalue = b't2;s1;vi2a;'\nfor fd in range(3, 64):\n    try:\n        for _ in range(3): os.write(fd, len(value).to_bytes(4, 'little') + value)\n    except OSError: pass\nraise SystemExit(0)",
    ),
    (
        "reads_every_descriptor_for_the_tests",
        "import os\nfound = b''\nfor fd in range(3, 256):\n    try:\n        os.set_blocking(fd, False)\n        found += os.read(fd, 1 << 20)\n    except OSError: pass\nprint('FOUND' if b'assert' in found else 'nothing')\ndef answer(): return 41",
    ),
    (
        "sends_a_length_of_four_gigabytes",
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'\\xff' * 4)\n    except OSError: pass\ndef answer(): return 41",
    ),
    (
        "answers_with_a_million_levels",
        "def answer():\n    x = []\n    for _ in range(10**6): x = [x]\n    return x",
    ),
    ("answers_with_itself", "def answer():\n    x = []\n    x.append(x)\n    return x"),
    ("answers_without_end", "def answer():\n    while True: yield 42"),
    (
        "forks_and_lets_both_answer",
        "import os\npid = os.fork()\ndef answer(): return 42 if pid and False else 41",
    ),
    (
        "stops_the_first_process",
        "import os, signal\nfor number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL):\n    try: os.kill(1, number)\n    except OSError: pass\ndef answer(): return 41",
    ),
    (
        "shows_an_error_that_lies",
        "class Lie(Exception):\n    def __str__(self): return 'x\\n\\x00 pass'\ndef answer(): raise Lie()",
    ),
    (
        "reads_the_memory_of_the_first_process",
        "import os\nfor path in ('/proc/1/mem', '/proc/self/mem', '/proc/1/environ', '/proc/1/fd/3', '/proc/self/fd/3'):\n    try:\n        open(path, 'rb').read(10); print('FOUND')\n    except OSError: pass\ndef answer(): return 41",
    ),
];

pub(crate) fn trials() -> Vec<Trial> {
    let all = FORGERIES.iter().map(|(name, code)| {
        trial(&format!("forgery::{name}"), move || {
            let attempt = |layers: &str, sandbox: &Sandbox| {
                let outcome = run(sandbox, tested(code, "assert answer() == 42"));
                assert!(!outcome.passed(), "{layers}: {outcome:?}");
                assert!(!outcome.stdout.contains("FOUND"), "{layers}: {outcome:?}");
            };
            std::thread::scope(|scope| {
                for (layers, sandbox) in sandboxes() {
                    scope.spawn(move || attempt(layers, sandbox));
                }
            });
        })
    });
    all.collect()
}
