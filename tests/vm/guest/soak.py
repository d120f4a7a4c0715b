"""What a soak has go through the share, both ways and for as long as it lasts, and what it looks at meanwhile. How long
that is, what is done to the connection, and what may come of it belong to the scenario."""
import concurrent.futures, dataclasses, mmap, os, random, subprocess, threading

# A file, and what is written or read of it in one call: some calls of NFS at the same time.
SIZE, PIECE = 8 << 20, 2 << 20
BYTES = random.Random(7).randbytes(PIECE + 65536)


def piece(lane, number, at):
    """What belongs at `at` of a lane's file, in the round of that number: unlike its neighbours' and the round's before."""
    begin = (number * 7919 + lane * 911 + at // PIECE * 104729) % 65536
    return BYTES[begin:begin + PIECE]


# ---- in the process of a lane, the user's ----

def lane(path, number):
    """Has a round for each number on standard input: writes one of two files, and meanwhile reads the other, which the round
    before has written, each past the page cache. Ends at the first byte that is wrong."""
    buffers = [mmap.mmap(-1, PIECE), mmap.mmap(-1, PIECE)]

    def write(turn):
        fd = os.open(f"{path}{turn % 2}", os.O_DIRECT | os.O_WRONLY | os.O_CREAT)
        for at in range(0, SIZE, PIECE):
            buffers[0][:] = piece(number, turn, at)
            assert os.pwritev(fd, buffers[:1], at) == PIECE
        os.close(fd)

    def read(turn):
        fd = os.open(f"{path}{turn % 2}", os.O_DIRECT | os.O_RDONLY)
        for at in range(0, SIZE, PIECE):
            assert os.preadv(fd, buffers[1:], at) == PIECE
            assert buffers[1][:] == piece(number, turn, at), f"round {turn}: what is read at {at} is not what was written"
        os.close(fd)
    with concurrent.futures.ThreadPoolExecutor(2) as both:
        for turn in map(int, os.fdopen(0)):
            for way in [both.submit(write, turn)] + ([both.submit(read, turn - 1)] if turn else []):
                way.result()
            print(turn, flush=True)


# ---- in the scenario's ----

class Lane:
    """A process of the user's that writes and reads at full rate. What arrives at the server is compared too, each round."""
    script = "import sys; sys.path.insert(0, '/rig'); import soak; soak.lane(sys.argv[1], int(sys.argv[2]))"

    def __init__(self, number, folder, exported):
        self.number, self.exported = number, f"{exported}/lane{number}-"
        self.rounds, self.wrong, self.ending = 0, None, False
        self.process = subprocess.Popen(["python3", "-c", self.script, f"{folder}/lane{number}-", str(number)], user=1001, group=1001,
                                        extra_groups=[], cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.begin(0)
            while True:
                turn = self.rounds
                if self.process.stdout.readline() != f"{turn}\n":
                    raise AssertionError(self.process.stderr.read())
                # What the first has written is read by the second.
                last = self.ending and turn > 0
                if not last:
                    self.begin(turn + 1)
                with open(f"{self.exported}{turn % 2}", "rb") as file:
                    for at in range(0, SIZE, PIECE):
                        if file.read(PIECE) != piece(self.number, turn, at):
                            raise AssertionError(f"round {turn}: what the server has at {at} is not what was written")
                self.rounds += 1
                if last:
                    return
        except Exception as error:
            self.wrong = f"lane {self.number}: {error}"

    def begin(self, turn):
        print(turn, file=self.process.stdin, flush=True)

    def end(self, seconds):
        """Has the rounds that were begun end, within so long; what was wrong."""
        self.ending = True
        self.thread.join(seconds)
        still = self.thread.is_alive()
        self.process.kill()
        self.process.stdin.close()
        self.process.wait()
        return self.wrong or (f"lane {self.number}: round {self.rounds} does not end" if still else None)


@dataclasses.dataclass(frozen=True)
class Held:
    """What a process holds; memory in KiB, of which `anon` is what it has asked for: the rest is its program's file."""
    rss: int
    anon: int
    descriptors: int
    threads: int

    def counts(self):
        return self.descriptors, self.threads


def held(pid):
    lines = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
    kib = [int(lines[name].split()[0]) for name in ("VmRSS", "RssAnon")]
    return Held(*kib, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))
