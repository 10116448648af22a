"""What takes long is made seldom."""

from study.pace import Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_takes_a_fiftieth_of_the_time_at_most():
    clock = Clock()
    pace = Pace(2.0, clock)
    made = []
    while clock.now < 300:
        if pace.is_due:
            made.append(clock.now)
            with pace.making():
                clock.now += 0.01 if len(made) < 4 else 1.0
        clock.now = round(clock.now + 0.01, 2)
    assert made[:4] == [0.0, 2.01, 4.02, 6.03], "every two seconds"
    assert made[4:6] == [57.03, 108.03], "every fifty"
    assert len(made) == 4 + 5
