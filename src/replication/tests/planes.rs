//! What becomes of a route whose target refuses record batches as they are.

use super::*;
use crate::endpoint::ErrorKind;
use crate::endpoint::memory::{Disturbance, Mishap};
use crate::model::Plane;
use crate::replication::planes::PlaneInUse;
use crate::wire::ApiKey;

const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;

#[tokio::test(start_paused = true)]
async fn where_batches_are_refused_records_go_on_and_the_reason_is_told() {
    let twin = Twin::new();
    twin.produce_singly(0..3);
    twin.target.disturb(&at(0), 1, Disturbance::Refuse(ErrorKind::PlaneRefused));
    let run = twin.run().await;
    run.reaches(3, 3).await;
    twin.assert_exact(&run, "one batch was refused unopened");
    let PlaneInUse { plane, why } = run.monitor().plane();
    assert_eq!(plane, Plane::Records);
    assert!(why.is_some_and(|why| why.contains("refuses the batch")), "status says why");
}

#[tokio::test(start_paused = true)]
async fn a_plane_that_is_prescribed_and_refused_halts_and_names_the_setting() {
    for plane in [Plane::Batches, Plane::Records] {
        let twin = Twin { plane: PlaneRule::Only(plane), ..Twin::new() };
        twin.produce(0..3);
        twin.target.disturb(&at(0), 0, Disturbance::Refuse(ErrorKind::PlaneRefused));
        let run = twin.run().await;
        let detail = run.halts_as(HaltReason::RecordRefused).await;
        assert!(detail.contains(&format!("plane `{plane}`")), "{detail}");
        assert_eq!(run.monitor().plane(), PlaneInUse { plane, why: None });
        // Looked at again, as people may have changed the target.
        run.comes_to(3, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_refuses_a_record_is_no_reason_to_change_planes() {
    let twin = Twin::new();
    twin.produce(0..3);
    twin.target.disturb(&at(0), 0, Disturbance::Refuse(ErrorKind::Refused));
    let run = twin.run().await;
    run.halts_as(HaltReason::RecordRefused).await;
    assert_eq!(run.monitor().plane().plane, Plane::Batches);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_refuses_batches_is_written_record_by_record_and_its_words_are_the_reason() {
    let twin = Twin::over_sockets(1, 1).await;
    twin.produce_singly(0..3);
    let (_, target) = twin.brokers.as_ref().expect("there are some");
    target.misbehave(|key| match key {
        ApiKey::Produce => Mishap::Refuse(UNSUPPORTED_FOR_MESSAGE_FORMAT),
        _ => Mishap::None,
    });
    let run = twin.run().await;
    run.reaches(3, 3).await;
    twin.assert_exact(&run, "batches are refused");
    let PlaneInUse { plane, why } = run.monitor().plane();
    assert_eq!(plane, Plane::Records);
    assert!(why.as_ref().is_some_and(|why| why.contains("UNSUPPORTED_FOR_MESSAGE_FORMAT")), "{why:?}");
}
