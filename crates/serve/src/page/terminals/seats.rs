//! The viewers of a terminal, and which of them drives it.
//!
//! One viewer drives: their input reaches the program, and the terminal has the size of their
//! window. Other viewers ask to drive, and the driver grants or refuses. A driver who loses the
//! connection keeps the seat for a while.

use std::time::Duration;

/// How long a disconnected driver keeps the seat.
pub(super) const KEPT: Duration = Duration::from_secs(30);

/// A seat at a terminal, which survives a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Seat {
    /// The visitor's id.
    pub(in super::super) visitor: u64,
    /// The tab's name.
    pub(in super::super) tab: String,
    /// Whether the visitor may do more than look.
    pub(in super::super) may_drive: bool,
}

/// The number of a connection to a terminal.
pub(super) type Number = u64;

/// All connected viewers.
#[derive(Debug, Default)]
pub(super) struct Seats {
    here: Vec<(Number, Seat)>,
    driver: Option<Seat>,
    /// Since when the driver has been disconnected.
    gone: Option<Duration>,
    asking: Vec<Number>,
}

/// The state as one viewer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) drives: bool,
    pub(super) has_asked: bool,
}

impl Seats {
    /// Adds a connection. Removes earlier ones of the same seat and returns their numbers.
    pub(super) fn join(&mut self, number: Number, seat: Seat) -> Vec<Number> {
        let is_same = |(_, other): &&(Number, Seat)| *other == seat;
        let old: Vec<Number> =
            self.here.iter().filter(is_same).map(|(number, _)| *number).collect();
        self.here.retain(|(number, _)| !old.contains(number));
        self.asking.retain(|number| !old.contains(number));
        if self.driver.as_ref() == Some(&seat) {
            self.gone = None;
        } else if self.driver.is_none() && seat.may_drive {
            self.driver = Some(seat.clone());
        }
        self.here.push((number, seat));
        old
    }

    /// Removes a lost connection.
    pub(super) fn leave(&mut self, number: Number, now: Duration) {
        let was_driver = self.drives(number);
        self.here.retain(|(other, _)| *other != number);
        self.asking.retain(|other| *other != number);
        if was_driver {
            self.gone = Some(now);
        }
    }

    /// Asks to drive. If nobody drives, the viewer drives at once.
    pub(super) fn ask(&mut self, number: Number) {
        let Some(seat) = self.of(number).filter(|seat| seat.may_drive) else { return };
        if self.driver.is_none() {
            self.driver = Some(seat.clone());
        } else if !self.drives(number) && !self.asking.contains(&number) {
            self.asking.push(number);
        }
    }

    /// The driver hands over to a viewer who has asked. Returns whether that was possible.
    pub(super) fn grant(&mut self, by: Number, to: Number) -> bool {
        if !self.drives(by) || !self.asking.contains(&to) {
            return false;
        }
        self.hand_over(to);
        true
    }

    /// The driver refuses a viewer. Returns whether that was possible.
    pub(super) fn refuse(&mut self, by: Number, to: Number) -> bool {
        let is_so = self.drives(by) && self.asking.contains(&to);
        if is_so {
            self.asking.retain(|number| *number != to);
        }
        is_so
    }

    /// When a disconnected driver's seat becomes free.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.gone.map(|gone| gone + KEPT)
    }

    /// Frees the seat if its time is over. Returns whether anything changed.
    pub(super) fn look(&mut self, now: Duration) -> bool {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return false;
        }
        self.gone = None;
        self.driver = None;
        if let Some(first) = self.asking.first().copied() {
            self.hand_over(first);
        }
        true
    }

    fn hand_over(&mut self, to: Number) {
        self.driver = self.of(to).cloned();
        self.gone = None;
        self.asking.retain(|number| *number != to);
    }

    pub(super) fn drives(&self, number: Number) -> bool {
        self.driver.is_some() && self.of(number) == self.driver.as_ref()
    }

    /// The driver's connection.
    pub(super) fn driver(&self) -> Option<Number> {
        self.here.iter().find(|(_, seat)| Some(seat) == self.driver.as_ref()).map(|(it, _)| *it)
    }

    /// Whether there is a driver, connected or not.
    pub(super) fn has_driver(&self) -> bool {
        self.driver.is_some()
    }

    pub(super) fn asking(&self) -> &[Number] {
        &self.asking
    }

    pub(super) fn count(&self) -> usize {
        self.here.len()
    }

    pub(super) fn view(&self, number: Number) -> View {
        View { drives: self.drives(number), has_asked: self.asking.contains(&number) }
    }

    fn of(&self, number: Number) -> Option<&Seat> {
        self.here.iter().find(|(other, _)| *other == number).map(|(_, seat)| seat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(visitor: u64, tab: &str) -> Seat {
        Seat { visitor, tab: tab.to_owned(), may_drive: true }
    }

    #[test]
    fn one_drives_and_others_ask() {
        let mut seats = Seats::default();
        seats.join(1, seat(1, "a"));
        seats.join(2, seat(2, "b"));
        assert!(seats.drives(1) && !seats.drives(2));
        assert!(!seats.grant(2, 2) && !seats.grant(1, 2), "nobody has asked");
        seats.ask(2);
        assert_eq!(seats.asking(), [2]);
        assert!(!seats.grant(2, 2), "who asks does not grant");
        assert!(seats.refuse(1, 2) && seats.asking().is_empty());
        seats.ask(2);
        assert!(seats.grant(1, 2) && seats.drives(2) && !seats.drives(1));
        assert!(seats.asking().is_empty());
    }

    #[test]
    fn who_only_looks_never_drives() {
        let mut seats = Seats::default();
        seats.join(1, Seat { may_drive: false, ..seat(1, "a") });
        seats.ask(1);
        assert!(!seats.drives(1) && seats.asking().is_empty());
        // Another visitor's tab of the same name is not the same seat.
        seats.join(2, seat(1, "a"));
        assert!(seats.drives(2) && !seats.drives(1));
    }

    #[test]
    fn a_driver_comes_back_within_a_while() {
        let now = Duration::from_secs(100);
        let mut seats = Seats::default();
        seats.join(1, seat(1, "a"));
        seats.join(2, seat(2, "b"));
        seats.leave(1, now);
        seats.ask(2);
        assert!(!seats.drives(2) && !seats.look(now + KEPT - Duration::from_millis(1)));
        seats.join(3, seat(1, "a"));
        assert!(seats.drives(3) && seats.deadline().is_none());
        seats.leave(3, now);
        assert!(seats.look(now + KEPT) && seats.drives(2));
    }

    #[test]
    fn nobody_takes_the_seat_of_another_visitor() {
        let mut seats = Seats::default();
        seats.join(1, seat(1, "a"));
        seats.leave(1, Duration::ZERO);
        seats.join(2, seat(2, "a"));
        assert!(!seats.drives(2));
        // A new connection of a seat replaces one that seemed to be open.
        seats.join(3, seat(1, "a"));
        assert_eq!(seats.join(4, seat(1, "a")), [3]);
        assert!(seats.drives(4) && seats.count() == 2);
    }
}
