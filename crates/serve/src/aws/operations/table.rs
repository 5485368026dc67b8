//! The table itself.

use super::{Effect, Kept, Operation, Perform, Service, Session, perform};
use crate::aws::{codebuild, ecs, iam, ssm, sts};

const NOTHING: Kept = Kept { target: None, document: None, command: None, session: None };
/// Of what is about one session.
const SESSION: Kept = Kept { session: Some(Session::InRequest("/SessionId")), ..NOTHING };

/// Of what is about one project.
const PROJECT: Kept = about("/projectName");

const fn about(target: &'static str) -> Kept {
    Kept { target: Some(target), ..NOTHING }
}

impl Operation {
    /// One of CodeBuild that changes nothing.
    const fn reads(action: &'static str, kept: Kept, perform: Perform) -> Self {
        Self::of_codebuild(action, Effect::Reads, kept, perform)
    }

    /// One of CodeBuild that changes something.
    const fn changes(action: &'static str, kept: Kept, perform: Perform) -> Self {
        Self::of_codebuild(action, Effect::Changes, kept, perform)
    }

    const fn of_codebuild(
        action: &'static str,
        effect: Effect,
        kept: Kept,
        perform: Perform,
    ) -> Self {
        // What follows `codebuild:`.
        let (_, name) = action.split_at(10);
        Operation { service: Service::CodeBuild, name, action, effect, kept, perform }
    }
}

/// All of them, by service.
pub(in crate::aws) const OPERATIONS: &[Operation] = &[
    Operation::reads(
        "codebuild:BatchGetBuilds",
        about("/ids"),
        perform::<codebuild::BatchGetBuilds>,
    ),
    Operation::reads("codebuild:ListBuilds", NOTHING, perform::<codebuild::ListBuilds>),
    Operation::changes("codebuild:StopBuild", about("/id"), perform::<codebuild::StopBuild>),
    Operation::changes(
        "codebuild:CreateProject",
        about("/name"),
        perform::<codebuild::CreateProject>,
    ),
    Operation::changes(
        "codebuild:UpdateProject",
        about("/name"),
        perform::<codebuild::UpdateProject>,
    ),
    Operation::reads(
        "codebuild:BatchGetProjects",
        about("/names"),
        perform::<codebuild::BatchGetProjects>,
    ),
    Operation::reads("codebuild:ListProjects", NOTHING, perform::<codebuild::ListProjects>),
    Operation::changes(
        "codebuild:InvalidateProjectCache",
        PROJECT,
        perform::<codebuild::InvalidateProjectCache>,
    ),
    Operation::changes(
        "codebuild:UpdateProjectVisibility",
        about("/projectArn"),
        perform::<codebuild::UpdateProjectVisibility>,
    ),
    Operation::changes("codebuild:StartBuild", PROJECT, perform::<codebuild::StartBuild>),
    Operation::changes("codebuild:RetryBuild", about("/id"), perform::<codebuild::RetryBuild>),
    Operation::reads(
        "codebuild:ListBuildsForProject",
        PROJECT,
        perform::<codebuild::ListBuildsForProject>,
    ),
    Operation::changes(
        "codebuild:BatchDeleteBuilds",
        about("/ids"),
        perform::<codebuild::BatchDeleteBuilds>,
    ),
    Operation::changes(
        "codebuild:DeleteProject",
        about("/name"),
        perform::<codebuild::DeleteProject>,
    ),
    Operation::reads(
        "codebuild:ListCuratedEnvironmentImages",
        NOTHING,
        perform::<codebuild::ListCuratedEnvironmentImages>,
    ),
    Operation::reads(
        "codebuild:ListSharedProjects",
        NOTHING,
        perform::<codebuild::ListSharedProjects>,
    ),
    Operation::reads(
        "codebuild:ListSharedReportGroups",
        NOTHING,
        perform::<codebuild::ListSharedReportGroups>,
    ),
    Operation::reads(
        "codebuild:ListSourceCredentials",
        NOTHING,
        perform::<codebuild::ListSourceCredentials>,
    ),
    Operation::changes(
        "codebuild:DeleteSourceCredentials",
        about("/arn"),
        perform::<codebuild::DeleteSourceCredentials>,
    ),
    Operation::reads(
        "codebuild:GetResourcePolicy",
        about("/resourceArn"),
        perform::<codebuild::GetResourcePolicy>,
    ),
    Operation::changes(
        "codebuild:DeleteResourcePolicy",
        about("/resourceArn"),
        perform::<codebuild::DeleteResourcePolicy>,
    ),
    Operation::changes(
        "codebuild:PutResourcePolicy",
        about("/resourceArn"),
        perform::<codebuild::PutResourcePolicy>,
    ),
    Operation::changes("codebuild:CreateFleet", about("/name"), perform::<codebuild::CreateFleet>),
    Operation::changes("codebuild:UpdateFleet", about("/arn"), perform::<codebuild::UpdateFleet>),
    Operation::changes("codebuild:DeleteFleet", about("/arn"), perform::<codebuild::DeleteFleet>),
    Operation::reads("codebuild:ListFleets", NOTHING, perform::<codebuild::ListFleets>),
    Operation::reads(
        "codebuild:BatchGetFleets",
        about("/names"),
        perform::<codebuild::BatchGetFleets>,
    ),
    Operation {
        service: Service::Ssm,
        name: "StartSession",
        action: "ssm:StartSession",
        effect: Effect::Changes,
        kept: Kept {
            target: Some("/Target"),
            document: Some("/DocumentName"),
            command: Some("/Parameters/command/0"),
            session: Some(Session::InAnswer("/SessionId")),
        },
        perform: perform::<ssm::StartSession>,
    },
    Operation {
        service: Service::Ssm,
        name: "ResumeSession",
        action: "ssm:ResumeSession",
        effect: Effect::Changes,
        kept: SESSION,
        perform: perform::<ssm::ResumeSession>,
    },
    Operation {
        service: Service::Ssm,
        name: "TerminateSession",
        action: "ssm:TerminateSession",
        effect: Effect::Changes,
        kept: SESSION,
        perform: perform::<ssm::TerminateSession>,
    },
    Operation {
        service: Service::Ssm,
        name: "DescribeSessions",
        action: "ssm:DescribeSessions",
        effect: Effect::Reads,
        kept: NOTHING,
        perform: perform::<ssm::DescribeSessions>,
    },
    Operation {
        service: Service::Ssm,
        name: "GetConnectionStatus",
        action: "ssm:GetConnectionStatus",
        effect: Effect::Reads,
        kept: Kept { target: Some("/Target"), ..NOTHING },
        perform: perform::<ssm::GetConnectionStatus>,
    },
    Operation {
        service: Service::Ecs,
        name: "ExecuteCommand",
        action: "ecs:ExecuteCommand",
        effect: Effect::Changes,
        kept: Kept {
            target: Some("/task"),
            command: Some("/command"),
            session: Some(Session::InAnswer("/session/sessionId")),
            ..NOTHING
        },
        perform: perform::<ecs::ExecuteCommand>,
    },
    Operation {
        service: Service::Ecs,
        name: "DescribeTasks",
        action: "ecs:DescribeTasks",
        effect: Effect::Reads,
        kept: Kept { target: Some("/tasks"), ..NOTHING },
        perform: perform::<ecs::DescribeTasks>,
    },
    Operation {
        service: Service::Ecs,
        name: "ListTasks",
        action: "ecs:ListTasks",
        effect: Effect::Reads,
        kept: Kept { target: Some("/cluster"), ..NOTHING },
        perform: perform::<ecs::ListTasks>,
    },
    Operation {
        service: Service::Ecs,
        name: "DescribeClusters",
        action: "ecs:DescribeClusters",
        effect: Effect::Reads,
        kept: Kept { target: Some("/clusters"), ..NOTHING },
        perform: perform::<ecs::DescribeClusters>,
    },
    Operation {
        service: Service::Ecs,
        name: "ListClusters",
        action: "ecs:ListClusters",
        effect: Effect::Reads,
        kept: NOTHING,
        perform: perform::<ecs::ListClusters>,
    },
    Operation {
        service: Service::Sts,
        name: "GetCallerIdentity",
        action: "sts:GetCallerIdentity",
        effect: Effect::Reads,
        kept: NOTHING,
        perform: perform::<sts::GetCallerIdentity>,
    },
    Operation {
        service: Service::Iam,
        name: "SimulatePrincipalPolicy",
        action: "iam:SimulatePrincipalPolicy",
        effect: Effect::Reads,
        kept: Kept { target: Some("/PolicySourceArn"), ..NOTHING },
        perform: perform::<iam::SimulatePrincipalPolicy>,
    },
    Operation {
        service: Service::Iam,
        name: "SimulateCustomPolicy",
        action: "iam:SimulateCustomPolicy",
        effect: Effect::Reads,
        kept: NOTHING,
        perform: perform::<iam::SimulateCustomPolicy>,
    },
];
