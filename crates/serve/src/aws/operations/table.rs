//! The table itself.

use super::{Effect, Operation, Perform, Service, perform};
use crate::aws::{cloudtrail, codebuild, ecs, iam, ssm, sts};

/// One that changes nothing.
const fn reads(service: Service, action: &'static str, perform: Perform) -> Operation {
    operation(service, action, Effect::Reads, perform)
}

/// One that changes something.
const fn changes(service: Service, action: &'static str, perform: Perform) -> Operation {
    operation(service, action, Effect::Changes, perform)
}

const fn operation(
    service: Service,
    action: &'static str,
    effect: Effect,
    perform: Perform,
) -> Operation {
    // What follows the service and a colon.
    let (_, name) = action.split_at(service.name().len() + 1);
    Operation { service, name, action, effect, perform }
}

/// All of them, by service.
pub(in crate::aws) const OPERATIONS: &[Operation] = &[
    reads(Service::CodeBuild, "codebuild:BatchGetBuilds", perform::<codebuild::BatchGetBuilds>),
    reads(Service::CodeBuild, "codebuild:ListBuilds", perform::<codebuild::ListBuilds>),
    changes(Service::CodeBuild, "codebuild:StopBuild", perform::<codebuild::StopBuild>),
    changes(Service::CodeBuild, "codebuild:CreateProject", perform::<codebuild::CreateProject>),
    changes(Service::CodeBuild, "codebuild:UpdateProject", perform::<codebuild::UpdateProject>),
    reads(Service::CodeBuild, "codebuild:BatchGetProjects", perform::<codebuild::BatchGetProjects>),
    reads(Service::CodeBuild, "codebuild:ListProjects", perform::<codebuild::ListProjects>),
    changes(
        Service::CodeBuild,
        "codebuild:InvalidateProjectCache",
        perform::<codebuild::InvalidateProjectCache>,
    ),
    changes(
        Service::CodeBuild,
        "codebuild:UpdateProjectVisibility",
        perform::<codebuild::UpdateProjectVisibility>,
    ),
    changes(Service::CodeBuild, "codebuild:StartBuild", perform::<codebuild::StartBuild>),
    changes(Service::CodeBuild, "codebuild:RetryBuild", perform::<codebuild::RetryBuild>),
    reads(
        Service::CodeBuild,
        "codebuild:ListBuildsForProject",
        perform::<codebuild::ListBuildsForProject>,
    ),
    changes(
        Service::CodeBuild,
        "codebuild:BatchDeleteBuilds",
        perform::<codebuild::BatchDeleteBuilds>,
    ),
    changes(Service::CodeBuild, "codebuild:DeleteProject", perform::<codebuild::DeleteProject>),
    reads(
        Service::CodeBuild,
        "codebuild:ListCuratedEnvironmentImages",
        perform::<codebuild::ListCuratedEnvironmentImages>,
    ),
    reads(
        Service::CodeBuild,
        "codebuild:ListSharedProjects",
        perform::<codebuild::ListSharedProjects>,
    ),
    reads(
        Service::CodeBuild,
        "codebuild:ListSharedReportGroups",
        perform::<codebuild::ListSharedReportGroups>,
    ),
    reads(
        Service::CodeBuild,
        "codebuild:ListSourceCredentials",
        perform::<codebuild::ListSourceCredentials>,
    ),
    changes(
        Service::CodeBuild,
        "codebuild:DeleteSourceCredentials",
        perform::<codebuild::DeleteSourceCredentials>,
    ),
    reads(
        Service::CodeBuild,
        "codebuild:GetResourcePolicy",
        perform::<codebuild::GetResourcePolicy>,
    ),
    changes(
        Service::CodeBuild,
        "codebuild:DeleteResourcePolicy",
        perform::<codebuild::DeleteResourcePolicy>,
    ),
    changes(
        Service::CodeBuild,
        "codebuild:PutResourcePolicy",
        perform::<codebuild::PutResourcePolicy>,
    ),
    changes(Service::CodeBuild, "codebuild:CreateFleet", perform::<codebuild::CreateFleet>),
    changes(Service::CodeBuild, "codebuild:UpdateFleet", perform::<codebuild::UpdateFleet>),
    changes(Service::CodeBuild, "codebuild:DeleteFleet", perform::<codebuild::DeleteFleet>),
    reads(Service::CodeBuild, "codebuild:ListFleets", perform::<codebuild::ListFleets>),
    reads(Service::CodeBuild, "codebuild:BatchGetFleets", perform::<codebuild::BatchGetFleets>),
    changes(Service::Ssm, "ssm:StartSession", perform::<ssm::StartSession>),
    changes(Service::Ssm, "ssm:ResumeSession", perform::<ssm::ResumeSession>),
    changes(Service::Ssm, "ssm:TerminateSession", perform::<ssm::TerminateSession>),
    reads(Service::Ssm, "ssm:DescribeSessions", perform::<ssm::DescribeSessions>),
    reads(Service::Ssm, "ssm:GetConnectionStatus", perform::<ssm::GetConnectionStatus>),
    changes(Service::Ecs, "ecs:ExecuteCommand", perform::<ecs::ExecuteCommand>),
    reads(Service::Ecs, "ecs:DescribeTasks", perform::<ecs::DescribeTasks>),
    reads(Service::Ecs, "ecs:ListTasks", perform::<ecs::ListTasks>),
    reads(Service::Ecs, "ecs:DescribeClusters", perform::<ecs::DescribeClusters>),
    reads(Service::Ecs, "ecs:ListClusters", perform::<ecs::ListClusters>),
    reads(Service::Sts, "sts:GetCallerIdentity", perform::<sts::GetCallerIdentity>),
    reads(Service::Iam, "iam:SimulatePrincipalPolicy", perform::<iam::SimulatePrincipalPolicy>),
    reads(Service::Iam, "iam:SimulateCustomPolicy", perform::<iam::SimulateCustomPolicy>),
    reads(Service::CloudTrail, "cloudtrail:LookupEvents", perform::<cloudtrail::LookupEvents>),
];
