//! Anchors and topic ids: both logs must still be the ones that were copied.

use std::sync::atomic::Ordering;

use super::*;
use crate::batch::BatchBuilder;

/// Copies ten batches of one record, each with a flush, so that anchors reach back; then dies.
async fn crash_with_anchors(twin: &Twin) {
    let run = twin.run().await;
    for n in 0..10 {
        twin.produce(n..n + 1);
        run.reaches(n + 1, n + 1).await;
        run.flush().await;
    }
    assert!(run.map().lock().expect("not poisoned").anchors().len() > 4);
    run.crash().await;
}

/// A log of the same shape with other content.
fn rewrite(cluster: &MemoryCluster, records: i64) {
    for n in 0..records {
        let mut builder = BatchBuilder::new(Offset(0));
        builder.push(&fresh(1000 + n));
        cluster.append_batch(&at(0), &builder.build());
    }
}

#[tokio::test(start_paused = true)]
async fn both_sides_as_they_were_are_proven() {
    let twin = Twin::new();
    crash_with_anchors(&twin).await;
    twin.produce(10..11);
    let run = twin.run().await;
    run.reaches(11, 11).await;
    twin.assert_exact(&run, "proven");
}

#[tokio::test(start_paused = true)]
async fn a_source_with_other_content_at_the_same_offsets_halts() {
    let twin = Twin::new();
    twin.source.tell_no_topic_ids();
    crash_with_anchors(&twin).await;
    twin.source.recreate_topic(TOPIC);
    rewrite(&twin.source, 20);
    let run = twin.run().await;
    let detail = run.halts_as(HaltReason::SourceRewritten).await;
    assert!(detail.contains("orders/0 at offset 9"), "{detail}");
    assert_eq!(twin.target.log_end(&at(0)), Offset(10));
}

#[tokio::test(start_paused = true)]
async fn a_target_with_other_content_at_the_same_offsets_halts() {
    for (records, unlike) in [(10, 9), (14, 9), (5, 4)] {
        let twin = Twin::new();
        twin.target.tell_no_topic_ids();
        crash_with_anchors(&twin).await;
        twin.target.recreate_topic(TOPIC);
        rewrite(&twin.target, records);
        let run = twin.run().await;
        run.halts_as(HaltReason::TargetRewritten).await;
        assert_eq!(twin.target.log_end(&at(0)), Offset(records), "sent behind {unlike}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_anchor_that_was_compacted_leaves_the_word_to_the_ones_before_it() {
    for other_content in [false, true] {
        let twin = Twin::new();
        twin.source.tell_no_topic_ids();
        crash_with_anchors(&twin).await;
        if other_content {
            twin.source.recreate_topic(TOPIC);
            rewrite(&twin.source, 10);
        }
        twin.source.remove_records(&at(0), |record| [8, 9].contains(&record.offset.0));
        let run = twin.run().await;
        if other_content {
            run.halts_as(HaltReason::SourceRewritten).await;
        } else {
            run.reaches(10, 10).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_every_anchor_expired_copying_goes_on_unanchored() {
    let twin = Twin::new();
    crash_with_anchors(&twin).await;
    twin.source.delete_records(&at(0), Offset(10));
    twin.produce(10..12);
    let run = twin.run().await;
    run.reaches(12, 12).await;
    assert_eq!(twin.target.committed(&at(0)).len(), 12);
    assert!(run.monitor().unanchored.load(Ordering::Relaxed), "status says so");
}

#[tokio::test(start_paused = true)]
async fn topics_created_again_are_known_by_their_ids() {
    let twin = Twin::new();
    crash_with_anchors(&twin).await;
    twin.source.recreate_topic(TOPIC);
    let run = twin.run().await;
    run.halts_as(HaltReason::SourceRecreated).await;
    run.crash().await;

    let twin = Twin::new();
    crash_with_anchors(&twin).await;
    twin.target.recreate_topic(TOPIC);
    let run = twin.run().await;
    run.halts_as(HaltReason::TargetRecreated).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(0));
}

#[tokio::test(start_paused = true)]
async fn topics_created_again_while_they_are_copied_halt_under_their_former_ids_too() {
    let twin = Twin::new();
    twin.produce(0..2);
    let run = twin.run().await;
    run.reaches(2, 2).await;
    twin.source.recreate_topic(TOPIC);
    run.halts_as(HaltReason::SourceRecreated).await;

    let twin = Twin::new();
    twin.produce(0..2);
    let run = twin.run().await;
    run.reaches(2, 2).await;
    twin.target.recreate_topic(TOPIC);
    twin.produce(2..3);
    run.halts_as(HaltReason::TargetRecreated).await;
}

#[tokio::test(start_paused = true)]
async fn without_ids_a_target_that_lost_what_no_anchor_speaks_for_is_not_written() {
    for strangers in [0, 3] {
        let twin = Twin::new();
        twin.target.tell_no_topic_ids();
        twin.produce(0..10);
        let run = twin.run().await;
        run.reaches(10, 10).await;
        run.flush().await;
        run.crash().await;
        twin.target.recreate_topic(TOPIC);
        rewrite(&twin.target, strangers);
        let run = twin.run().await;
        run.halts_as(HaltReason::TargetRecreated).await;
        assert_eq!(twin.target.log_end(&at(0)), Offset(strangers));
    }
}

#[tokio::test(start_paused = true)]
async fn without_ids_an_anchor_below_the_loss_lets_it_be_copied_again() {
    let twin = Twin::new();
    twin.target.tell_no_topic_ids();
    crash_with_anchors(&twin).await;
    twin.target.elect_without(&at(0), Offset(5));
    let run = twin.run().await;
    run.reaches(10, 10).await;
    twin.assert_exact(&run, "copied again");
}
