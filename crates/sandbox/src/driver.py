# The Python side of the sandbox. The first process, which this file starts as, is trusted: it holds the control
# channel, runs the tests and gives the verdict. It forks one process that runs the tested code and nothing else.
#
# Between the two go values in a small text format, never objects: what the tests compare are exact builtin types that
# were built here, so no object of the tested code can lie about being equal. The control channel, the nonce and the
# tests reach this process only after the fork, and the tested process closes its copy of the channel first.
import posix as os  # builtin; the module `os` takes as long to import as all the rest of this
import sys

sys.path[:] = [entry for entry in sys.path if entry not in ("", "/", os.getcwd())]

LONGEST = 64 << 20
PLAIN = "exception"


def read_exactly(fd, count):
    parts = []
    while count:
        part = os.read(fd, min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_frame(fd):
    count = int.from_bytes(read_exactly(fd, 4), "little")
    if count > LONGEST:
        raise ValueError("an answer of %d bytes" % count)
    return read_exactly(fd, count)


def write_frame(fd, data):
    data = len(data).to_bytes(4, "little") + data
    while data:
        data = data[os.write(fd, data):]


class Codec:
    """Values as text. Exact builtin types come out at the other side; anything else goes as a numbered handle."""

    def __init__(self, handle, resolve):
        self.handle = handle
        self.resolve = resolve

    def dumps(self, value):
        out = []
        self.put(value, out)
        return b"".join(out)

    def put(self, value, out):
        if value is None:
            out.append(b"N")
        elif value is True:
            out.append(b"T")
        elif value is False:
            out.append(b"F")
        elif isinstance(value, int):
            out.append(b"i%x;" % int(value))
        elif isinstance(value, float):
            out.append(b"f%s;" % float.hex(float(value)).encode())
        elif isinstance(value, str):
            data = str.encode(value, "utf-8", "surrogatepass")
            out.append(b"s%x;" % len(data))
            out.append(data)
        elif isinstance(value, (bytes, bytearray)):
            out.append(b"b%x;" % len(value))
            out.append(bytes(value))
        elif isinstance(value, complex):
            self.put_all(b"c", (value.real, value.imag), out)
        elif isinstance(value, tuple):
            self.put_all(b"t", tuple(value), out)
        elif isinstance(value, list):
            self.put_all(b"l", list(value), out)
        elif isinstance(value, frozenset):
            self.put_all(b"z", list(value), out)
        elif isinstance(value, set):
            self.put_all(b"S", list(value), out)
        elif isinstance(value, dict):
            self.put_all(b"d", [part for item in dict.items(value) for part in item], out)
        elif isinstance(value, range):
            self.put_all(b"r", (value.start, value.stop, value.step), out)
        else:
            self.put_other(value, out)

    def put_other(self, value, out):
        kind = type(value)
        where = (kind.__module__, kind.__name__)
        if where == ("collections", "deque"):
            self.put_all(b"q", list(value), out)
        elif where in (("decimal", "Decimal"), ("fractions", "Fraction")):
            self.put_all(b"n", (where[1], str(value)), out)
        elif where == ("builtins", "function") and self.resolve is None:
            # From the tests to the code only: a lambda among the arguments.
            import marshal
            if value.__closure__:
                raise TypeError("the tests pass a function with a closure")
            self.put_all(b"m", (marshal.dumps(value.__code__), value.__defaults__), out)
        elif hasattr(kind, "__next__") and self.resolve is not None:
            # An iterator of the tested code: what it gives, all of it.
            self.put_all(b"I", list(value), out)
        elif kind is type and getattr(builtins_module(), value.__name__, None) is value:
            self.put_all(b"k", (value.__name__,), out)
        elif where == ("builtins", "dict_keys"):
            self.put_all(b"S", list(value), out)
        elif where == ("builtins", "dict_values") or where == ("builtins", "dict_items"):
            self.put_all(b"l", list(value), out)
        else:
            out.append(b"h%x;" % self.handle(value))

    def put_all(self, tag, values, out):
        out.append(tag + b"%x;" % len(values))
        for value in values:
            self.put(value, out)

    def loads(self, data):
        value, end = self.get(data, 0)
        if end != len(data):
            raise ValueError("an answer with something behind it")
        return value

    def get(self, data, at):
        tag = data[at:at + 1]
        at += 1
        if tag == b"N":
            return None, at
        if tag == b"T":
            return True, at
        if tag == b"F":
            return False, at
        end = data.index(b";", at)
        text = data[at:end].decode("ascii")
        at = end + 1
        if tag == b"f":
            return float.fromhex(text), at
        count = int(text, 16)
        if tag == b"i":
            return count, at
        if tag == b"h":
            return self.remote(count), at
        if count < 0 or count > len(data):
            raise ValueError("an answer that is longer than it is")
        if tag == b"s":
            return data[at:at + count].decode("utf-8", "surrogatepass"), at + count
        if tag == b"b":
            return data[at:at + count], at + count
        values = []
        for _ in range(count):
            value, at = self.get(data, at)
            values.append(value)
        return self.build(tag, values), at

    def remote(self, number):
        return self.resolve(number) if self.resolve else Remote(self.handle.link, number)

    def build(self, tag, values):
        if tag == b"t":
            return tuple(values)
        if tag == b"l":
            return values
        if tag == b"S":
            return set(values)
        if tag == b"z":
            return frozenset(values)
        if tag == b"d":
            return dict(zip(values[::2], values[1::2]))
        if tag == b"I":
            return iter(values)
        if tag == b"c":
            return complex(*values)
        if tag == b"r":
            return range(*values)
        if tag == b"q":
            from collections import deque
            return deque(values)
        if tag == b"n" and values[0] == "Decimal":
            from decimal import Decimal
            return Decimal(values[1])
        if tag == b"n" and values[0] == "Fraction":
            from fractions import Fraction
            return Fraction(values[1])
        if tag == b"k" and type(getattr(builtins_module(), values[0], None)) is type:
            return getattr(builtins_module(), values[0])
        if tag == b"m" and self.resolve:
            import marshal
            return type(run_tested)(marshal.loads(values[0]), sys.modules["candidate"].__dict__, "f", values[1])
        raise ValueError("an answer of an unknown kind")


def one_line(error):
    """The last line of a traceback; an error of the tested code may raise again when it is shown."""
    try:
        text = str(error).strip().split("\n")[0][:300]
    except BaseException:
        text = ""
    name = type(error).__name__
    return "%s: %s" % (name, text) if text else name


def kind_of(error):
    if isinstance(error, MemoryError):
        return "memory"
    return "exit" if isinstance(error, (SystemExit, GeneratorExit)) else PLAIN


# ---------------------------------------------------------------------------------------------------- the tested side


def run_tested(code, name, requests, answers):
    """Runs the tested code, says how that went, and then answers the tests."""
    module = type(sys)(name)
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["candidate"] = sys.modules[name] = module
    objects = []

    def handle(value):
        objects.append(value)
        return len(objects) - 1

    codec = Codec(handle, objects.__getitem__)

    def raised(error):
        return codec.dumps(("x", type(error).__name__, one_line(error), kind_of(error)))

    try:
        exec(compile(code, "<program>", "exec"), module.__dict__)
        answer = codec.dumps(("v", None))
    except BaseException as error:
        answer = raised(error)
    while True:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BaseException:
                pass
        write_frame(answers, answer)
        request = read_frame(requests)
        try:
            what, target, rest, named = codec.loads(request)
            if what == "has":
                value = target in module.__dict__
            elif what == "name":
                value = module.__dict__[target]
            elif what == "attribute":
                value = getattr(target, rest)
            elif what == "call":
                value = target(*rest, **named)
            elif what == "set":
                value = setattr(target, rest, named)
            elif what == "iterate":
                value = list(target)
            else:
                value = str(target)
            answer = codec.dumps(("v", value))
        except BaseException as error:
            answer = raised(error)


# --------------------------------------------------------------------------------------------------- the trusted side


class Ended(BaseException):
    """The tested process is gone."""


class Raised(Exception):
    """An exception of the tested code that is no builtin one."""


class Link:
    """The way to the tested process."""

    def __init__(self, requests, answers):
        self.requests = requests
        self.answers = answers

        def handle(value):
            if type(value) is Remote:
                return value._number
            raise TypeError("the tests pass a value of type %s" % type(value).__name__)

        class Handle:
            link = self
            __call__ = staticmethod(handle)

        self.codec = Codec(Handle(), None)

    def ask(self, what, target, rest=None, named=None):
        data = self.codec.dumps((what, target, rest, named))
        try:
            write_frame(self.requests, data)
        except OSError:
            raise Ended from None
        return self.answer()

    def answer(self):
        try:
            data = read_frame(self.answers)
        except (EOFError, OSError):
            raise Ended from None
        answer = self.codec.loads(data)
        if answer[0] == "v":
            return answer[1]
        name, text, kind = str(answer[1]), str(answer[2]), str(answer[3])
        error = getattr(builtins_module(), name, None)
        if not (isinstance(error, type) and issubclass(error, Exception)):
            error = Raised
        try:
            raised = error(text)
        except Exception:
            raised = Raised(text)
        raised.said, raised.kind = text, kind
        raise raised


class Remote:
    """An object of the tested process. It equals nothing but itself."""

    def __init__(self, link, number):
        self.__dict__.update(_link=link, _number=number)

    def __call__(self, *rest, **named):
        return self._link.ask("call", self, rest, named)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._link.ask("attribute", self, name)

    def __setattr__(self, name, value):
        self._link.ask("set", self, name, value)

    def __iter__(self):
        return iter(self._link.ask("iterate", self))

    def __str__(self):
        return self._link.ask("text", self)


def builtins_module():
    import builtins
    return builtins


STANDARD = getattr(sys, "stdlib_module_names", ("math", "collections", "itertools", "copy", "random", "re", "string"))


class Names(dict):
    """The names of the tests: their own, what the code provides, builtins, the standard library, the rest of it."""

    link = None
    provided = frozenset()

    def __missing__(self, name):
        if self.link is None:
            raise KeyError(name)
        if name not in self.provided:
            if hasattr(builtins_module(), name):
                raise KeyError(name)
            if name in STANDARD:
                return __import__(name)
        if not self.link.ask("has", name):
            raise KeyError(name)
        return self.link.ask("name", name)


def run_tests(link, context, tests, provided):
    names = Names()
    names["__name__"] = "tests"
    if context:
        exec(compile(context, "<context>", "exec"), names)
    names.link, names.provided = link, frozenset(provided)
    for name in provided:
        dict.pop(names, name, None)
    exec(compile(tests, "<tests>", "exec"), names)


def processor_seconds():
    """What the kernel lets a process have, which it counts in ticks."""
    import resource
    limit = resource.getrlimit(resource.RLIMIT_CPU)[0]
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def ending(child):
    """What became of the tested process, as kind and message."""
    _, status, used = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if used.ru_utime + used.ru_stime > processor_seconds() - 0.1:
            return "timeout", "took more processor time than it may"
        return "killed", "ended by signal %d" % number
    return "exit", "ended with code %d before it was through" % os.WEXITSTATUS(status)


def limit(text):
    """Where no launcher has set the limits."""
    import resource
    for part in text.split():
        name, value = part.split("=")
        name, value = getattr(resource, name, None), int(value)
        if name is None:
            continue
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(name, (value, value))
        except (ValueError, OSError):
            pass


def main():
    # Python's own handler would let the tested code interrupt this process. The module `signal` is slow to import.
    import _signal
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    control = os.dup(0)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    limits = read_frame(control).decode()
    name = read_frame(control).decode()
    code = read_frame(control).decode("utf-8", "surrogatepass")
    if limits:
        limit(limits)
    requests, ask = os.pipe()
    answers, answer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(control)
            os.close(ask)
            os.close(answers)
            run_tested(code, name, requests, answer)
        finally:
            os._exit(1)
    os.close(requests)
    os.close(answer)
    nonce = read_frame(control)
    judge = read_frame(control)
    context, tests, provided = (read_frame(control).decode() for _ in range(3))
    verdict = b"pass"
    try:
        link = Link(ask, answers)
        link.answer()
        if judge == b"tests":
            run_tests(link, context, tests, provided.split())
    except Ended:
        kind, text = ending(child)
        verdict = ("fail %s %s" % (kind, text)).encode()
    except BaseException as error:
        text = getattr(error, "said", None) or one_line(error)
        kind = getattr(error, "kind", None) or kind_of(error)
        kind = kind if kind in (PLAIN, "memory", "exit") else PLAIN
        verdict = ("fail %s %s" % (kind, text)).encode("utf-8", "replace")
    write_frame(control, nonce + b" " + verdict)
    os._exit(0)


main()
