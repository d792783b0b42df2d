//! Calendars, price lists, allowances and budgets.

use super::*;

const FEBRUARY: Moment = Moment(1_709_208_000); // Thursday, 2024-02-29 12:00.

fn money(text: &str) -> Money {
    Money::parse(text).expect(text)
}

#[test]
fn dates_are_those_of_the_calendar() {
    assert_eq!(FEBRUARY.date(), (2024, 2, 29));
    assert_eq!(FEBRUARY.hour_of_week(), 3 * 24 + 12);
    assert_eq!(FEBRUARY.left(Period::Day), 12 * 3600);
    assert_eq!(FEBRUARY.left(Period::Month), 12 * 3600);
    assert_eq!(Moment::of_date(2024, 2, 29), Some(Moment(FEBRUARY.0 - 12 * 3600)));
    for (year, month, day) in [(2023, 2, 29), (2024, 13, 1), (2024, 4, 31), (1969, 1, 1)] {
        assert_eq!(Moment::of_date(year, month, day), None);
    }
    // Every day of two centuries, both ways.
    for day in 0..73_000 {
        let moment = Moment(day * 86_400);
        let (year, month, day) = moment.date();
        assert_eq!(Moment::of_date(year, month, day), Some(moment));
    }
}

#[test]
fn hours_of_the_week_are_read_as_people_write_them() {
    let has = |text: &str, hour: u64| {
        // A Monday.
        let monday = Moment::of_date(2024, 1, 1).expect("a date");
        Hours::parse(text).expect(text).has(Moment(monday.0 + hour * 3600))
    };
    assert!(has("mon-fri 08:00-18:00", 8) && !has("mon-fri 08:00-18:00", 18));
    assert!(!has("mon-fri 08:00-18:00", 5 * 24 + 9));
    assert!(has("sat,sun", 5 * 24) && has("fri-mon", 6 * 24));
    assert!(has("sun 22:00-06:00", 5) && !has("mon 22:00-06:00", 5));
    assert!(has("mon 08:00-09:00; tue", 24));
    for text in ["", "mo", "mon 8-9", "mon 08:30-09:00", "mon 08:00-08:00", "mon 25:00-26:00"] {
        assert_eq!(Hours::parse(text), None, "{text}");
    }
}

#[test]
fn the_first_line_that_fits_holds_and_a_cheaper_substitute_is_billed_as_itself() {
    let line = |model: Option<&str>, hours: Hours, output: &str| PriceLine {
        model: model.map(String::from),
        hours,
        rates: Rates { output: money(output), ..Rates::default() },
    };
    let night = Hours::parse("mon-sun 22:00-06:00").expect("hours");
    let plan = Plan {
        name: "pay".into(),
        allowance: Money::ZERO,
        prices: alloc::vec![
            line(Some("large"), night, "1"),
            line(Some("large"), Hours::ALL, "4"),
            line(Some("small"), Hours::ALL, "2"),
            line(None, Hours::ALL, "3"),
        ],
    };
    let tokens = Tokens { output: 1_000_000, ..Tokens::default() };
    let price = |asked, answered, at| plan.price((asked, answered), at, tokens);
    assert_eq!(price("large", "large", FEBRUARY), money("4"));
    assert_eq!(price("large", "large", Moment(FEBRUARY.0 + 11 * 3600)), money("1"));
    assert_eq!(price("large", "small", FEBRUARY), money("2"));
    assert_eq!(price("small", "large", FEBRUARY), money("2"));
    assert_eq!(price("large", "any", FEBRUARY), money("4"));
    assert_eq!(price("any", "any", FEBRUARY), money("3"));
}

#[test]
fn only_what_a_client_was_given_is_billed() {
    let given = Tokens { prompt: 9, cached: 0, output: 1 };
    assert_eq!(billed(Outcome::Done, given), given);
    assert_eq!(billed(Outcome::Gone, given), given);
    assert_eq!(billed(Outcome::Gone, Tokens { output: 0, ..given }), Tokens::default());
    for outcome in [Outcome::Refused, Outcome::Rejected, Outcome::Failed, Outcome::Expired] {
        assert_eq!(billed(outcome, given), Tokens::default());
    }
}

#[test]
fn an_allowance_is_used_up_before_anything_is_paid_and_begins_anew_each_month() {
    let mut spending = Spending::default();
    let allowance = money("1");
    for (price, paid, free) in [("0.6", "0", "0.6"), ("0.6", "0.2", "0.4"), ("0.6", "0.6", "0")] {
        let split = spending.split(FEBRUARY, allowance, money(price));
        assert_eq!(split, (money(paid), money(free)));
        spending.add(FEBRUARY, split);
    }
    let mut known = Spending::known(FEBRUARY, Money::ZERO, Money::ZERO, money("0.5"));
    known.merge(FEBRUARY, &spending);
    assert_eq!(known.split(FEBRUARY, money("2"), allowance), (money("0.5"), money("0.5")));
    let march = Moment(FEBRUARY.0 + 86_400);
    assert_eq!(spending.split(march, allowance, money("0.6")), (Money::ZERO, money("0.6")));
}

#[test]
fn a_hard_budget_refuses_until_its_period_is_over_and_a_soft_one_tells() {
    let budget = Budget { day: Some(money("1")), month: None, is_hard: true, warn: 80 };
    let mut spending = Spending::default();
    let none = Money::ZERO;
    let level = |spending: &Spending| spending.level(FEBRUARY, (&budget, false), Period::Day);
    assert_eq!(level(&spending), Some(Level::Within));
    spending.add(FEBRUARY, (money("0.8"), none));
    assert_eq!(level(&spending), Some(Level::Near));
    assert_eq!(spending.refused(FEBRUARY, (&budget, false)), None);
    spending.add(FEBRUARY, (money("0.2"), none));
    assert_eq!(level(&spending), Some(Level::Spent));
    let refused = Some((Period::Day, 12 * 3600));
    assert_eq!(spending.refused(FEBRUARY, (&budget, false)), refused);
    let soft = Budget { is_hard: false, ..budget };
    assert_eq!(spending.refused(FEBRUARY, (&soft, false)), None);
    let tomorrow = Moment(FEBRUARY.0 + 86_400);
    assert_eq!(spending.refused(tomorrow, (&budget, false)), None);
    assert_eq!(spending.level(FEBRUARY, (&budget, false), Period::Month), None);
}

#[test]
fn a_budget_of_nothing_ends_with_the_allowance() {
    let budget = Budget { month: Some(Money::ZERO), is_hard: true, ..Budget::default() };
    let allowance = money("1");
    let mut spending = Spending::known(FEBRUARY, Money::ZERO, Money::ZERO, money("0.9"));
    let refused = |spending: &Spending| {
        let is_free = spending.has_free(FEBRUARY, allowance);
        spending.refused(FEBRUARY, (&budget, is_free))
    };
    assert_eq!(refused(&spending), None);
    spending.add(FEBRUARY, (Money::ZERO, money("0.1")));
    let refused = refused(&spending);
    assert_eq!(refused.map(|(period, _)| period), Some(Period::Month));
}
