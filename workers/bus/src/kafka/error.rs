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
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::OperationTimedOut
        | Code::WaitingForCoordinator
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::RequestTimedOut
        | Code::NetworkException
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::RebalanceInProgress => Kind::Transient,
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
