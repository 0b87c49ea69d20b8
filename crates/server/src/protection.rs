//! What a client's backups are worth together: protected, at risk and why, or unprotected (DECISIONS.md D31).

use halfkey_api::message::{MethodStatus, Protection, ProtectionReason as Reason};
use halfkey_envelope::wallet::Method;

use crate::status::{COMPLETED, protects};

/// From so few guesses on, a password is hardly a backup any more.
const FEW_GUESSES: u32 = 3;

/// What [`judge`] says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) protection: Protection,
    pub(crate) warnings: Vec<Reason>,
}

/// Judges the backups that a client with a wallet has.
///
/// *Unprotected*: no backup counts, and none could. *At risk*: none counts but one might open all the same (its key is on
/// one device, or perhaps has not left it); or every one that counts is due or nearly out of guesses; or the only one is
/// a weak one. Else *protected*. What is found of any other backup is a warning.
pub(crate) fn judge(methods: &[MethodStatus]) -> Judged {
    let counting: Vec<_> = methods.iter().filter(|method| protects(method)).collect();
    let mut noted: Vec<_> = methods.iter().flat_map(found).collect();
    let mut reasons = Vec::new();
    match counting[..] {
        [] => reasons.extend(noted.iter().copied().filter(|reason| may_open_all_the_same(*reason))),
        [only] => reasons.extend(weak_alone(only).into_iter().chain(doubts(only))),
        _ if counting.iter().all(|method| doubts(method).next().is_some()) => {
            reasons.extend(counting.iter().flat_map(|method| doubts(method)));
        }
        _ => {}
    }
    if counting.len() == 1 {
        noted.push(Reason::OneMethod);
    }
    reasons.sort_unstable();
    reasons.dedup();
    noted.sort_unstable();
    noted.dedup();
    let warnings = noted.into_iter().filter(|reason| !reasons.contains(reason)).collect();
    let protection = match (counting.is_empty(), reasons.is_empty()) {
        (true, true) => Protection::Unprotected,
        (false, true) => Protection::Protected,
        (_, false) => Protection::AtRisk { reasons },
    };
    Judged { protection, warnings }
}

/// Everything that speaks against one backup, wherever else the wallet is backed up.
fn found(method: &MethodStatus) -> impl Iterator<Item = Reason> {
    let completed = method.status == COMPLETED && method.method != Method::Exit;
    let unconfirmed = method.pending_sync && method.sync_confirmed_at.is_none();
    let failed = method.verification_failed_at.is_some();
    let doubts = completed.then(|| doubts(method)).into_iter().flatten().filter(move |_| !failed);
    [
        (completed && !failed && method.asserted_device_bound, Reason::DeviceBound),
        (completed && !failed && unconfirmed, Reason::PendingSync),
        (failed, Reason::VerificationFailed),
        (method.guesses_left == Some(0), Reason::LockedOut),
    ]
    .into_iter()
    .filter_map(|(holds, reason)| holds.then_some(reason))
    .chain(doubts)
}

/// What makes a backup that counts a doubtful one.
fn doubts(method: &MethodStatus) -> impl Iterator<Item = Reason> {
    let few = method.guesses_left.is_some_and(|left| (1..=FEW_GUESSES).contains(&left));
    let due = method.verification_due.then_some(Reason::VerificationDue);
    due.into_iter().chain(few.then_some(Reason::FewGuessesLeft))
}

/// What makes it too weak to be the only one.
fn weak_alone(method: &MethodStatus) -> Option<Reason> {
    match method.method {
        Method::Password if method.asserted_pin => Some(Reason::PinAlone),
        Method::GoogleDrive | Method::ICloud => Some(Reason::CloudAlone),
        _ => None,
    }
}

const fn may_open_all_the_same(reason: Reason) -> bool {
    matches!(reason, Reason::DeviceBound | Reason::PendingSync)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(method: Method) -> MethodStatus {
        MethodStatus {
            method,
            status: COMPLETED.to_owned(),
            backup_id: None,
            curves: Vec::new(),
            completed_at: Some(1),
            verified_at: None,
            verification_failed_at: None,
            verification_due: false,
            guesses_left: None,
            asserted_method_key: None,
            asserted_device_bound: false,
            asserted_pin: false,
            pending_sync: false,
            sync_confirmed_at: None,
            asserted_account: None,
        }
    }

    fn pin() -> MethodStatus {
        MethodStatus { asserted_pin: true, guesses_left: Some(10), ..completed(Method::Password) }
    }

    fn code() -> MethodStatus {
        completed(Method::RecoveryCode)
    }

    fn due(method: MethodStatus) -> MethodStatus {
        MethodStatus { verification_due: true, ..method }
    }

    fn guesses(left: u32) -> MethodStatus {
        MethodStatus { guesses_left: Some(left), ..completed(Method::Password) }
    }

    fn device_bound() -> MethodStatus {
        MethodStatus { asserted_device_bound: true, ..completed(Method::Passkey) }
    }

    fn unread() -> MethodStatus {
        MethodStatus { pending_sync: true, ..completed(Method::ICloud) }
    }

    fn failed() -> MethodStatus {
        MethodStatus { verification_failed_at: Some(7), ..due(completed(Method::Passkey)) }
    }

    fn incomplete() -> MethodStatus {
        MethodStatus { status: "incomplete".to_owned(), ..completed(Method::Passkey) }
    }

    fn locked_out() -> MethodStatus {
        MethodStatus { status: "incomplete".to_owned(), ..guesses(0) }
    }

    fn protected(warnings: &[Reason]) -> Judged {
        Judged { protection: Protection::Protected, warnings: warnings.to_vec() }
    }

    fn at_risk(reasons: &[Reason], warnings: &[Reason]) -> Judged {
        Judged { protection: Protection::AtRisk { reasons: reasons.to_vec() }, warnings: warnings.to_vec() }
    }

    fn unprotected(warnings: &[Reason]) -> Judged {
        Judged { protection: Protection::Unprotected, warnings: warnings.to_vec() }
    }

    #[test]
    fn one_sound_backup_protects_and_its_being_alone_is_a_warning() {
        for only in [code(), guesses(10), guesses(4), completed(Method::Passkey), completed(Method::Password)] {
            assert_eq!(judge(&[only]), protected(&[Reason::OneMethod]));
        }
        assert_eq!(judge(&[code(), guesses(10)]), protected(&[]));
    }

    #[test]
    fn a_weak_one_alone_is_a_risk_and_beside_another_it_is_none() {
        let confirmed = MethodStatus { sync_confirmed_at: Some(3), ..unread() };
        assert_eq!(judge(&[pin()]), at_risk(&[Reason::PinAlone], &[Reason::OneMethod]));
        for cloud in [completed(Method::GoogleDrive), completed(Method::ICloud), confirmed] {
            assert_eq!(judge(std::slice::from_ref(&cloud)), at_risk(&[Reason::CloudAlone], &[Reason::OneMethod]));
            assert_eq!(judge(&[cloud.clone(), code()]), protected(&[]));
            assert_eq!(judge(&[cloud, pin()]), protected(&[]));
        }
    }

    #[test]
    fn what_does_not_count_is_no_second_method() {
        for (other, warnings) in [
            (incomplete(), vec![Reason::OneMethod]),
            (completed(Method::Exit), vec![Reason::OneMethod]),
            (failed(), vec![Reason::VerificationFailed, Reason::OneMethod]),
            (device_bound(), vec![Reason::DeviceBound, Reason::OneMethod]),
        ] {
            assert_eq!(judge(&[pin(), other]), at_risk(&[Reason::PinAlone], &warnings));
        }
    }

    #[test]
    fn what_might_open_all_the_same_is_a_risk_and_what_cannot_is_no_protection() {
        assert_eq!(judge(&[device_bound()]), at_risk(&[Reason::DeviceBound], &[]));
        assert_eq!(judge(&[unread()]), at_risk(&[Reason::PendingSync], &[]));
        let both = [Reason::DeviceBound, Reason::PendingSync];
        assert_eq!(judge(&[unread(), device_bound(), incomplete()]), at_risk(&both, &[]));
        assert_eq!(judge(&[device_bound(), failed()]), at_risk(&both[..1], &[Reason::VerificationFailed]));
        assert_eq!(judge(&[]), unprotected(&[]));
        assert_eq!(judge(&[incomplete(), completed(Method::Exit)]), unprotected(&[]));
        assert_eq!(judge(&[failed()]), unprotected(&[Reason::VerificationFailed]));
        assert_eq!(judge(&[locked_out()]), unprotected(&[Reason::LockedOut]));
        let broken = MethodStatus { verification_failed_at: Some(7), ..device_bound() };
        assert_eq!(judge(&[broken]), unprotected(&[Reason::VerificationFailed]));
    }

    #[test]
    fn what_is_due_or_nearly_spent_is_a_risk_unless_something_sound_stands_beside_it() {
        let one = [Reason::OneMethod];
        assert_eq!(judge(&[due(code())]), at_risk(&[Reason::VerificationDue], &one));
        assert_eq!(judge(&[guesses(3)]), at_risk(&[Reason::FewGuessesLeft], &one));
        assert_eq!(judge(&[guesses(1)]), at_risk(&[Reason::FewGuessesLeft], &one));
        assert_eq!(judge(&[due(pin())]), at_risk(&[Reason::PinAlone, Reason::VerificationDue], &one));
        let both = [Reason::VerificationDue, Reason::FewGuessesLeft];
        assert_eq!(judge(&[guesses(3), due(code())]), at_risk(&both, &[]));
        assert_eq!(judge(&[guesses(3), code()]), protected(&[Reason::FewGuessesLeft]));
        assert_eq!(judge(&[due(guesses(10)), code()]), protected(&[Reason::VerificationDue]));
        assert_eq!(judge(&[locked_out(), code()]), protected(&[Reason::LockedOut, Reason::OneMethod]));
        assert_eq!(judge(&[failed(), code()]), protected(&[Reason::VerificationFailed, Reason::OneMethod]));
    }
}
