"""The program is replaced under a mount and its tunnel: that of an earlier version (efs-agent-before) and this one speak to
each other. `make upgrade-test COMMIT=...` brings the earlier one."""
import json, os, shutil
from rig import *
from scenarios_tunnel import Stunnel, share


def installed(program):
    """As rpm does it: the new file takes the place of the old one."""
    shutil.copy(f"/rig/{program}", f"{AGENT}.new")
    os.rename(f"{AGENT}.new", AGENT)


@scenario("upgrade: the tunnel of the version before goes on below its mount, and both versions understand each other")
def _():
    with Stunnel(), share():
        for holds, asks in (("efs-agent-before", "efs-agent"), ("efs-agent", "efs-agent-before")):
            installed(holds)
            try:
                expect(agent(), 0, "mounted ")
                write(f"{POINT}/written", "before the upgrade")
                tunnel, there = agents(), mounted()
                installed(asks)
                expect(agent("status"), 0, "answers; ", r"tunnel: port \d+, TLS 1.3 .*; connections: 1; ")
                one = json.loads(agent("status", "--json").out)["shares"][0]
                check(one["usable"] and one["tunnel"]["connections"] == 1, one)
                expect(agent("check"), 1, r"(?m)^ok +tunnel +.*; is there already", r"(?m)^ok +handshake +", "FAULT +AppStream")
                expect(agent(), 0, "already mounted: ")
                check((agents(), mounted()) == (tunnel, there), f"{agents()} instead of {tunnel}")
                check(open(f"{POINT}/written").read() == "before the upgrade", "what was written is not there")
                expect(agent("unmount"), 0, "unmounted ", "all that was written is on the server")
                check(not agents() and not mounted(), f"left behind: {agents()}")
            finally:
                installed("efs-agent")
