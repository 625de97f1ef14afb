//! What an operator can decide about a halted partition, and what follows from it.

use crate::model::{HaltReason, LinkName, Resolution, TopicPartition};

/// What happens when the source removed records before they were copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetentionOvertook {
    /// Halt the partition until an operator decides.
    #[default]
    Halt,
    /// Record the exact lost range and go on behind it.
    Continue,
}

/// The decisions a halt allows, each with its consequence; empty when only the cause can be mended.
pub fn choices(reason: HaltReason) -> &'static [(Resolution, &'static str)] {
    use HaltReason::*;
    use Resolution::*;
    match reason {
        TargetNotEmpty => &[
            (Adopt, "match the target's records with the source's from its log start and go on behind them"),
            (Resend, "copy everything from the source's log start behind what the target holds"),
        ],
        ForeignWrite => &[(Adopt, "leave the foreign records where they are and go on copying behind them")],
        TargetRewritten | TargetRecreated => {
            &[(Resend, "forget the map and copy everything from the source's log start behind what the target holds")]
        }
        SourceRewritten | SourceRecreated => &[(
            Resend,
            "forget the map and copy the source as it is now, from its log start, behind what the target holds",
        )],
        SourceTruncated => &[(
            SkipLoss,
            "keep the records the source no longer has on the target, forget the map and go on where the source's new \
             history begins",
        )],
        RetentionOvertook => &[(SkipLoss, "go on at the source's log start; the lost range stays on record")],
        RecordRefused | Corrupt | Fenced | MapStalled | AccessDenied => &[],
    }
}

/// Whether the decision answers the halt.
pub fn allows(reason: HaltReason, decision: Resolution) -> bool {
    choices(reason).iter().any(|(choice, _)| *choice == decision)
}

/// What to type, with the consequence; for status and logs.
pub fn ways_out(link: &LinkName, target: &TopicPartition, reason: HaltReason) -> Vec<String> {
    let commands = choices(reason).iter();
    let mut ways: Vec<String> = commands
        .map(|(decision, consequence)| format!("twinlog resolve {link} {target} --{decision}: {consequence}"))
        .collect();
    if ways.is_empty() {
        ways.push(match reason {
            HaltReason::RecordRefused => {
                "mend what the detail names: the target topic's max.message.bytes or cleanup.policy, or the link's plane; it \
                 is tried again every 30 s"
                    .into()
            }
            HaltReason::Corrupt => {
                "restore a healthy replica of what is named above; it is tried again every 30 s".into()
            }
            HaltReason::Fenced => "a newer owner writes this partition: stop one of the two".into(),
            _ => "mend the cause named above; it is tried again every 30 s".into(),
        });
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_halt_has_a_printed_way_out() {
        use HaltReason::*;
        for reason in [
            SourceRewritten,
            SourceTruncated,
            SourceRecreated,
            RetentionOvertook,
            TargetRewritten,
            TargetRecreated,
            TargetNotEmpty,
            ForeignWrite,
            RecordRefused,
            Fenced,
            Corrupt,
            MapStalled,
            AccessDenied,
        ] {
            assert!(!ways_out(&"dr".into(), &TopicPartition::new("orders", 3), reason).is_empty(), "{reason}");
        }
        let ways = ways_out(&"dr".into(), &TopicPartition::new("orders", 3), RetentionOvertook);
        assert!(ways[0].starts_with("twinlog resolve dr orders/3 --skip-loss: "), "{ways:?}");
    }
}
