//! The table itself.

use super::{Effect, Operation, Perform, Service, perform};
use crate::aws::iam::Of;
use crate::aws::{
    cloudtrail, codebuild, documents, ec2, ecs, iam, kms, logs, run_command, ssm, sts,
};

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
    changes(Service::CodeBuild, "codebuild:StartBuildBatch", perform::<codebuild::StartBuildBatch>),
    changes(Service::CodeBuild, "codebuild:StopBuildBatch", perform::<codebuild::StopBuildBatch>),
    changes(Service::CodeBuild, "codebuild:RetryBuildBatch", perform::<codebuild::RetryBuildBatch>),
    reads(
        Service::CodeBuild,
        "codebuild:BatchGetBuildBatches",
        perform::<codebuild::BatchGetBuildBatches>,
    ),
    reads(Service::CodeBuild, "codebuild:ListBuildBatches", perform::<codebuild::ListBuildBatches>),
    reads(
        Service::CodeBuild,
        "codebuild:ListBuildBatchesForProject",
        perform::<codebuild::ListBuildBatchesForProject>,
    ),
    changes(
        Service::CodeBuild,
        "codebuild:DeleteBuildBatch",
        perform::<codebuild::DeleteBuildBatch>,
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
    reads(Service::Logs, "logs:DescribeLogGroups", perform::<logs::DescribeLogGroups>),
    reads(Service::Logs, "logs:DescribeLogStreams", perform::<logs::DescribeLogStreams>),
    reads(Service::Logs, "logs:GetLogEvents", perform::<logs::GetLogEvents>),
    reads(Service::Logs, "logs:FilterLogEvents", perform::<logs::FilterLogEvents>),
    changes(Service::Ssm, "ssm:StartSession", perform::<ssm::StartSession>),
    changes(Service::Ssm, "ssm:ResumeSession", perform::<ssm::ResumeSession>),
    changes(Service::Ssm, "ssm:TerminateSession", perform::<ssm::TerminateSession>),
    reads(Service::Ssm, "ssm:DescribeSessions", perform::<ssm::DescribeSessions>),
    reads(Service::Ssm, "ssm:GetConnectionStatus", perform::<ssm::GetConnectionStatus>),
    changes(Service::Ssm, "ssm:CreateDocument", perform::<documents::CreateDocument>),
    reads(Service::Ssm, "ssm:GetDocument", perform::<documents::GetDocument>),
    reads(Service::Ssm, "ssm:DescribeDocument", perform::<documents::DescribeDocument>),
    reads(Service::Ssm, "ssm:ListDocuments", perform::<documents::ListDocuments>),
    reads(Service::Ssm, "ssm:ListDocumentVersions", perform::<documents::ListDocumentVersions>),
    changes(Service::Ssm, "ssm:UpdateDocument", perform::<documents::UpdateDocument>),
    changes(
        Service::Ssm,
        "ssm:UpdateDocumentDefaultVersion",
        perform::<documents::UpdateDocumentDefaultVersion>,
    ),
    changes(Service::Ssm, "ssm:DeleteDocument", perform::<documents::DeleteDocument>),
    changes(Service::Ssm, "ssm:SendCommand", perform::<run_command::SendCommand>),
    changes(Service::Ssm, "ssm:CancelCommand", perform::<run_command::CancelCommand>),
    reads(Service::Ssm, "ssm:ListCommands", perform::<run_command::ListCommands>),
    reads(
        Service::Ssm,
        "ssm:ListCommandInvocations",
        perform::<run_command::ListCommandInvocations>,
    ),
    reads(Service::Ssm, "ssm:GetCommandInvocation", perform::<run_command::GetCommandInvocation>),
    reads(
        Service::Ssm,
        "ssm:DescribeInstanceInformation",
        perform::<run_command::DescribeInstanceInformation>,
    ),
    changes(Service::Ecs, "ecs:ExecuteCommand", perform::<ecs::ExecuteCommand>),
    reads(Service::Ecs, "ecs:DescribeTasks", perform::<ecs::DescribeTasks>),
    reads(Service::Ecs, "ecs:ListTasks", perform::<ecs::ListTasks>),
    reads(Service::Ecs, "ecs:DescribeClusters", perform::<ecs::DescribeClusters>),
    reads(Service::Ecs, "ecs:ListClusters", perform::<ecs::ListClusters>),
    changes(Service::Ecs, "ecs:CreateCluster", perform::<ecs::CreateCluster>),
    changes(Service::Ecs, "ecs:UpdateCluster", perform::<ecs::UpdateCluster>),
    changes(Service::Ecs, "ecs:DeleteCluster", perform::<ecs::DeleteCluster>),
    changes(Service::Ecs, "ecs:TagResource", perform::<ecs::TagResource>),
    changes(Service::Ecs, "ecs:UntagResource", perform::<ecs::UntagResource>),
    reads(Service::Ecs, "ecs:ListTagsForResource", perform::<ecs::ListTagsForResource>),
    changes(Service::Ecs, "ecs:RunTask", perform::<ecs::RunTask>),
    changes(Service::Ecs, "ecs:StartTask", perform::<ecs::StartTask>),
    changes(Service::Ecs, "ecs:StopTask", perform::<ecs::StopTask>),
    reads(Service::Ecs, "ecs:DescribeTaskDefinition", perform::<ecs::DescribeTaskDefinition>),
    changes(Service::Ecs, "ecs:CreateService", perform::<ecs::CreateService>),
    changes(Service::Ecs, "ecs:UpdateService", perform::<ecs::UpdateService>),
    reads(Service::Sts, "sts:GetCallerIdentity", perform::<sts::GetCallerIdentity>),
    reads(Service::Iam, "iam:SimulatePrincipalPolicy", perform::<iam::SimulatePrincipalPolicy>),
    reads(Service::Iam, "iam:SimulateCustomPolicy", perform::<iam::SimulateCustomPolicy>),
    reads(Service::Iam, "iam:GetRole", perform::<iam::GetRole>),
    changes(Service::Iam, "iam:CreateUser", perform::<Of<iam::CreateUser>>),
    reads(Service::Iam, "iam:GetUser", perform::<Of<iam::GetUser>>),
    reads(Service::Iam, "iam:ListUsers", perform::<Of<iam::ListUsers>>),
    changes(Service::Iam, "iam:DeleteUser", perform::<Of<iam::DeleteUser>>),
    changes(Service::Iam, "iam:TagUser", perform::<Of<iam::TagUser>>),
    changes(Service::Iam, "iam:UntagUser", perform::<Of<iam::UntagUser>>),
    reads(Service::Iam, "iam:ListUserTags", perform::<Of<iam::ListUserTags>>),
    changes(Service::Iam, "iam:CreateAccessKey", perform::<Of<iam::CreateAccessKey>>),
    reads(Service::Iam, "iam:ListAccessKeys", perform::<Of<iam::ListAccessKeys>>),
    changes(Service::Iam, "iam:UpdateAccessKey", perform::<Of<iam::UpdateAccessKey>>),
    changes(Service::Iam, "iam:DeleteAccessKey", perform::<Of<iam::DeleteAccessKey>>),
    changes(Service::Iam, "iam:PutUserPolicy", perform::<Of<iam::PutUserPolicy>>),
    reads(Service::Iam, "iam:GetUserPolicy", perform::<Of<iam::GetUserPolicy>>),
    reads(Service::Iam, "iam:ListUserPolicies", perform::<Of<iam::ListUserPolicies>>),
    changes(Service::Iam, "iam:DeleteUserPolicy", perform::<Of<iam::DeleteUserPolicy>>),
    changes(Service::Iam, "iam:CreateGroup", perform::<Of<iam::CreateGroup>>),
    reads(Service::Iam, "iam:GetGroup", perform::<Of<iam::GetGroup>>),
    reads(Service::Iam, "iam:ListGroups", perform::<Of<iam::ListGroups>>),
    changes(Service::Iam, "iam:DeleteGroup", perform::<Of<iam::DeleteGroup>>),
    changes(Service::Iam, "iam:AddUserToGroup", perform::<Of<iam::AddUserToGroup>>),
    changes(Service::Iam, "iam:RemoveUserFromGroup", perform::<Of<iam::RemoveUserFromGroup>>),
    reads(Service::Iam, "iam:ListGroupsForUser", perform::<Of<iam::ListGroupsForUser>>),
    changes(Service::Iam, "iam:PutGroupPolicy", perform::<Of<iam::PutGroupPolicy>>),
    reads(Service::Iam, "iam:GetGroupPolicy", perform::<Of<iam::GetGroupPolicy>>),
    reads(Service::Iam, "iam:ListGroupPolicies", perform::<Of<iam::ListGroupPolicies>>),
    changes(Service::Iam, "iam:DeleteGroupPolicy", perform::<Of<iam::DeleteGroupPolicy>>),
    reads(Service::CloudTrail, "cloudtrail:LookupEvents", perform::<cloudtrail::LookupEvents>),
    reads(Service::Ec2, "ec2:DescribeSubnets", perform::<ec2::DescribeSubnets>),
    reads(Service::Ec2, "ec2:DescribeVpcEndpoints", perform::<ec2::DescribeVpcEndpoints>),
    reads(Service::Kms, "kms:DescribeKey", perform::<kms::DescribeKey>),
];
