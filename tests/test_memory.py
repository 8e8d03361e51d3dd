"""How much memory is left, from the files of a Linux that is made up; and what does not fit is refused."""

import pytest

from cohortmorph import UserError
from cohortmorph.run import memory

GB = 2**30


@pytest.fixture
def linux(tmp_path):
    """A machine with 16 GB available; the process has 1 GB already, in a group without limit."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal:  {20 * 2**20} kB\nMemAvailable:  {16 * 2**20} kB\n")
    (tmp_path / "proc/self/status").write_text(f"Name:\tpython\nVmRSS:\t {2**20} kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    return tmp_path


def group(linux, name, limit, used, caches=0, version=2):
    folder = linux / "sys/fs/cgroup" / name
    folder.mkdir(parents=True, exist_ok=True)
    files = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for file, number in zip(files, (limit, used), strict=True):
        (folder / file).write_text(f"{number}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {caches}\n")


def test_the_machine_s_available_memory_is_the_limit_where_there_is_no_other(linux):
    assert memory.left_mb(linux, {}) == (16 * 1024, "the machine has free")
    group(linux, "outer/inner", "max", 3 * GB)
    assert memory.left_mb(linux, {})[0] == 16 * 1024


@pytest.mark.parametrize("name", ["", "outer", "outer/inner"])
def test_the_tightest_control_group_counts_and_its_caches_are_free(linux, name):
    group(linux, name, 4 * GB, 3 * GB, caches=GB // 2)
    megabytes, source = memory.left_mb(linux, {})
    assert megabytes == 1.5 * 1024 and "control group" in source


def test_control_groups_of_version_1_are_read_as_well(linux):
    (linux / "proc/self/cgroup").write_text("3:cpu,cpuacct:/x\n4:memory:/slurm/job\n0::/\n")
    group(linux, "memory/slurm/job", 9223372036854771712, GB, version=1)
    assert memory.left_mb(linux, {})[0] == 16 * 1024
    group(linux, "memory/slurm", 5 * GB, 2 * GB, version=1)
    assert memory.left_mb(linux, {})[0] == 3 * 1024


def test_an_htcondor_slot_leaves_what_the_process_has_not_taken_yet(linux):
    (linux / "machine.ad").write_text('Name = "slot1_1@node"\nTotalMemory = 64000\nMemory = 4096\n')
    megabytes, source = memory.left_mb(linux, {"_CONDOR_MACHINE_AD": str(linux / "machine.ad")})
    assert megabytes == 3 * 1024 and "HTCondor" in source


def test_a_system_that_tells_nothing_limits_nothing(tmp_path):
    assert memory.left_mb(tmp_path, {})[0] == float("inf")


def test_this_machine_says_a_plausible_number():
    assert 10 < memory.left_mb()[0] < 1e8


def test_what_does_not_fit_is_told_with_its_parts_and_what_helps():
    said = r"about 3,000 MB are needed \(images 1,000 MB, a step 2,000 MB\), and the machine has free 2,999 MB\. Buy"
    parts = {"images": 1000, "a step": 2000}
    with pytest.raises(UserError, match=said):
        memory.check(parts, "Buy more.", left=(2999, "the machine has free"))
    memory.check(parts, "Buy more.", left=(3000, "the machine has free"))
