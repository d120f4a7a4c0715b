#!/usr/bin/env python3
"""A stand-in for systemd, of which it does what a tunnel needs: it holds the listeners of a socket unit, runs the
service behind it, and runs it again when it ends. It is PID 1 of namespaces of its own (unshare --mount --pid
--mount-proc --fork), in which /run/systemd and /run/efs-agent are empty at first."""

import ctypes
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time

SOCKET = "/run/systemd/stand-in"
UNITS = "/run/systemd/system"
SYSTEMCTL = "/usr/bin/systemctl"
# It begins quickly: a machine may be busy, and its time is short.
SYSTEMCTL_TEXT = f"""#!{sys.executable} -IS
import _socket, sys
init = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
init.connect("{SOCKET}")
init.send("\\n".join(word for word in sys.argv[1:] if not word.startswith("--")).encode())
init.shutdown(_socket.SHUT_WR)
said = b""
while piece := init.recv(4096):
    said += piece
sys.exit(None if said == b"well\\n" else said.decode())
"""


def values(unit, key):
    """All values of a key in a unit's drop-ins, behind the last that is empty."""
    found = []
    folder = f"{UNITS}/{unit}.d"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        with open(f"{folder}/{name}") as file:
            for line in file:
                if line.startswith(key + "="):
                    value = line.split("=", 1)[1].strip()
                    found = found + [value] if value else []
    return found


class Tunnel:
    def __init__(self, name):
        self.name, self.process, self.again = name, None, 0
        self.listeners = [self.listener(at) for at in values(name + ".socket", "ListenStream")]
        if not self.listeners:
            raise OSError(f"Unit {name}.socket has no listeners")

    def listener(self, at):
        if at.startswith("/"):
            if os.path.exists(at):
                os.unlink(at)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(at)
            os.chmod(at, 0o600)
        else:
            address, port = at.rsplit(":", 1)
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, int(port)))
        listener.listen(128)
        return listener

    def run(self):
        words = shlex.split(values(self.name + ".service", "ExecStart")[-1])
        pid = os.fork()
        if pid == 0:
            os.setsid()
            copies = [os.dup(listener.fileno()) for listener in self.listeners]
            high = [os.dup2(copy, 100 + n) for n, copy in enumerate(copies)]
            for n, copy in enumerate(high):
                os.dup2(copy, 3 + n, inheritable=True)
            null = os.open("/dev/null", os.O_RDWR)
            for n in range(3):
                os.dup2(null, n, inheritable=True)
            os.closerange(3 + len(high), 1024)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            handed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(high))}
            os.execve(words[0], words, handed)
        self.process = pid

    def stop(self):
        for listener in self.listeners:
            if listener.family == socket.AF_UNIX:
                os.unlink(listener.getsockname())
            listener.close()
        if self.process:
            os.kill(self.process, signal.SIGTERM)


class Init:
    def __init__(self):
        self.tunnels = {}

    def asked(self, words):
        command, units = words[0], {word.rsplit(".", 1)[0] for word in words[1:]}
        for name in units:
            if command == "start" and name not in self.tunnels:
                self.tunnels[name] = Tunnel(name)
                self.tunnels[name].run()
            if command == "stop":
                if name not in self.tunnels:
                    raise OSError(f"Failed to stop {name}.socket: Unit {name}.socket not loaded.")
                self.tunnels.pop(name).stop()

    def reap(self):
        try:
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                for tunnel in self.tunnels.values():
                    if tunnel.process == pid:
                        tunnel.process, tunnel.again = None, time.monotonic() + 0.1
        except ChildProcessError:
            pass

    def serve(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(SOCKET)
        listener.listen(128)
        # Whoever has started us knows by this that all is there, and has us end by closing the other end.
        print("up", flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [], 0.02)
            if sys.stdin in ready:
                sys.exit()
            self.reap()
            for tunnel in self.tunnels.values():
                if tunnel.process is None and time.monotonic() >= tunnel.again:
                    tunnel.run()
            if listener not in ready:
                continue
            connection, _ = listener.accept()
            with connection:
                words = connection.makefile().read().split("\n")
                try:
                    self.asked(words)
                    said = "well\n"
                except OSError as why:
                    said = f"{why}\n"
                try:
                    connection.sendall(said.encode())
                except OSError:
                    pass


def main():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    for folder in ["/run/systemd", "/run/efs-agent"]:
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "none", folder], check=True)
    if "--absent" in sys.argv:
        print("up", flush=True)
        sys.stdin.read()
        return
    os.makedirs(UNITS)
    script = "/run/systemd/systemctl"
    with open(script, "w") as file:
        file.write(SYSTEMCTL_TEXT)
    os.chmod(script, 0o755)
    subprocess.run(["mount", "--bind", script, SYSTEMCTL], check=True)
    Init().serve()


main()
