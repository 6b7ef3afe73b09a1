//! What librdkafka's errors mean to a stage.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::BusError;

/// What kind of failure a code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Transient,
    NotOwner,
    Missing,
    Permanent,
}

pub(super) fn kind(code: Code) -> Kind {
    match code {
        Code::IllegalGeneration | Code::UnknownMemberId | Code::FencedInstanceId | Code::AssignmentLost => {
            Kind::NotOwner
        }
        Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::UnknownTopic => Kind::Missing,
        // librdkafka's own.
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::OperationTimedOut
        | Code::WaitingForCoordinator
        | Code::RebalanceInProgress => Kind::Transient,
        // Those that the protocol calls retriable (https://kafka.apache.org/protocol#protocol_error_codes).
        Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::RequestTimedOut
        | Code::ReplicaNotAvailable
        | Code::NetworkException
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::NotController
        | Code::KafkaStorageError
        | Code::ListenerNotFound
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::OffsetNotAvailable
        | Code::PreferredLeaderNotAvailable
        | Code::EligibleLeadersNotAvailable
        | Code::UnstableOffsetCommit
        | Code::ThrottlingQuotaExceeded => Kind::Transient,
        _ => Kind::Permanent,
    }
}

pub(super) fn bus_error(doing: impl Into<String>, error: &KafkaError) -> BusError {
    let (doing, why) = (doing.into(), error.to_string());
    match error.rdkafka_error_code().map_or(Kind::Permanent, kind) {
        Kind::Transient => BusError::Unavailable { doing, why },
        Kind::NotOwner => BusError::NotOwner { doing, why },
        Kind::Missing => BusError::Missing { doing, why },
        Kind::Permanent => BusError::Refused { doing, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::leader_moved(Code::FencedLeaderEpoch, true)]
    #[case::broker_gone(Code::BrokerTransportFailure, true)]
    #[case::not_allowed(Code::TopicAuthorizationFailed, false)]
    #[case::no_topic(Code::UnknownTopicOrPartition, false)]
    fn what_the_protocol_calls_retriable_is_tried_again(#[case] code: Code, #[case] is_retryable: bool) {
        let error = bus_error("looking for the ends of a topic", &KafkaError::MetadataFetch(code));
        assert_eq!(error.is_retryable(), is_retryable, "{error}");
    }
}
