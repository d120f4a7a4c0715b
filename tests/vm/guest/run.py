"""Runs scenarios and tells of each in lines that the harness on the host reads:
`@@begin NAME`, its log, `@@end ok|failed SECONDS NAME`."""
import os, time, traceback
import rig


def run(before):
    """Those of rig.SCENARIOS that the file `wanted` names, or all; `before` comes before each."""
    wanted = None
    if os.path.exists("/rig/wanted"):
        wanted = set(open("/rig/wanted").read().splitlines())
    for name, function in rig.SCENARIOS:
        if wanted is not None and name not in wanted:
            continue
        print(f"@@begin {name}", flush=True)
        began, outcome = time.monotonic(), "ok"
        try:
            before()
            function()
            left = [pid for pid in rig.agents() if pid not in rig.MAY_STAY]
            if left:
                raise rig.Failed(f"processes were left behind: {left}")
        except rig.Failed as error:
            outcome = "failed"
            print(f"FAILED: {error}")
            traceback.print_exc(limit=-2)
        except Exception:
            outcome = "failed"
            traceback.print_exc()
        if outcome == "failed":
            for pid in rig.agents():
                print(f"--- where process {pid} is\n" + rig.sh(f"cat /proc/{pid}/wchan /proc/{pid}/stack; true"))
            print("--- mounts\n" + rig.sh("grep -e nfs -e /mnt /proc/self/mountinfo; dmesg | tail -n 5; true"))
        print(f"@@end {outcome} {time.monotonic() - began:.1f} {name}", flush=True)


if __name__ == "__main__":
    import scenarios_identity, scenarios_session, scenarios_faults, scenarios_admin, scenarios_tunnel, scenarios_client, scenarios_state, scenarios_upgrade, faults  # noqa: F401  (they register themselves)
    rig.SCENARIOS.sort(key=lambda scenario: scenario[0] not in faults.FIRST)
    rig.set_up()
    run(rig.clean)
