"""Several tasks in one command."""


def test_two_tasks_have_their_tables_and_one_over_both(mmbench, tmp_path):
    quick = ("--method", "majority,concat+equal", "--seeds", "1", "--epochs", "1", "--no-energy")
    done = mmbench("run", "digits,synthetic", *quick)
    assert done.code == 0, done.err
    assert done.out.count("parity · digits") == 1 and "synthetic (generated) · protocol mixed" in done.out
    last = done.out[done.out.index("2 tasks") :]
    assert last.index("concat+equal") < last.index("majority")
    assert len(list((tmp_path / "results" / "runs").iterdir())) == 2


def test_a_second_task_that_is_wrong_stops_before_anything_is_trained(mmbench, tmp_path):
    done = mmbench("run", "digits,digitz", "--seeds", "1")
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1 and "digits" in done.err
    assert not (tmp_path / "results").exists()
