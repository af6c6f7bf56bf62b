"""``mmbench data init-card``, and a run of what it wrote."""

from __future__ import annotations


def test_from_a_table_to_a_result_without_code(mmbench, tmp_path):
    rows = [
        f"p{i},u{i // 2},I feel {('glad', 'sad')[i % 2]} today {i % 7},{i % 5},{('glad', 'sad')[i % 2]}"
        for i in range(80)
    ]
    (tmp_path / "posts.csv").write_text("\n".join(["post_id,user_id,text,size,mood_label", *rows]) + "\n")
    made = mmbench("data", "init-card", "posts.csv")
    assert made.code == 0
    assert made.out == (tmp_path / "posts.toml").read_text()
    assert "mmbench run posts --plugin posts.toml --method all" in made.err
    ran = mmbench(
        "run", "posts", "--plugin", "posts.toml", "--method", "majority,linear:all", "--seeds", "1", "--no-energy"
    )
    assert ran.code == 0
    assert "mood_label · posts · protocol card" in ran.out
    assert "60/20/20 by user_id" in ran.out
    assert "posts" in mmbench("list", "tasks", "--plugin", "posts.toml").out
    assert "post_id" not in mmbench("info", "posts", "--plugin", "posts.toml").err
    again = mmbench("data", "init-card", "posts.csv")
    assert again.code == 2 and "posts.toml is there already" in again.complaint


def test_mistakes_of_init_card(mmbench, tmp_path):
    (tmp_path / "posts.csv").write_text("a,b\n1,2\n2,3\n3,4\n4,5\n")
    assert "no such file" in mmbench("data", "init-card", "gone.csv").complaint
    assert "name it with --label" in mmbench("data", "init-card", "posts.csv").complaint
    told = mmbench("data", "init-card", "posts.csv", "--label", "b", "--output", "elsewhere/card.toml")
    assert told.code == 2 and "expected a file in" in told.complaint
    assert not (tmp_path / "posts.toml").exists()
