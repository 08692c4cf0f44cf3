//! The codes: one for each kind of problem, for good. `docs/errors.md` explains them to users.

use std::fmt;

use serde::Serialize;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// There is no lab as long as it is there.
    Error,
    /// The lab can be built; it may not do what its author had in mind.
    Warning,
}

macro_rules! codes {
    ($($variant:ident $number:literal $severity:ident $title:literal)*) => {
        /// The kind of a problem. Codes are stable: one that falls out of use is not given to
        /// another kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $title] $variant,)* }

        impl Code {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it is printed: `NSL001`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $number,)* }
            }

            /// What it stands for, in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// Whether a problem of this kind is an error or a warning.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    Syntax            "NSL001" Error   "the file is not TOML"
    UnknownKey        "NSL002" Error   "unknown key"
    WrongType         "NSL003" Error   "value of the wrong type"
    MissingKey        "NSL004" Error   "missing key"
    DuplicateKey      "NSL005" Error   "key or table given twice"
    BadName           "NSL006" Error   "bad name of a lab, network, node or service"
    BadInterfaceName  "NSL007" Error   "bad interface name"
    NameClash         "NSL008" Error   "node and service of the same name"
    UnknownWord       "NSL009" Error   "word that this key does not know"
    BadAddress        "NSL010" Error   "not an address or subnet"
    HostBits          "NSL011" Error   "subnet with host bits set"
    Overlap           "NSL012" Error   "overlapping subnets"
    UnknownNetwork    "NSL013" Error   "unknown network"
    OutsideSubnet     "NSL014" Error   "address outside its subnet"
    UnusableAddress   "NSL015" Error   "address that no machine can have"
    PrefixMismatch    "NSL016" Error   "prefix length differs from the subnet's"
    DuplicateAddress  "NSL017" Error   "address given twice"
    BadMtu            "NSL018" Error   "MTU out of range"
    Ipv6Off           "NSL019" Error   "IPv6 address where IPv6 is off"
    NoNodes           "NSL020" Error   "lab without nodes"
    GatewayUnknown    "NSL021" Error   "gateway is an unknown node"
    GatewayNotShared  "NSL022" Error   "gateway on no shared network"
    GatewayOutside    "NSL023" Error   "gateway address in none of the node's subnets"
    GatewaySelf       "NSL024" Error   "node is its own gateway"
    GatewayNoForward  "NSL025" Warning "gateway does not forward"
    GatewayNobody     "NSL026" Warning "gateway address belongs to nobody"
    BadProgram        "NSL030" Error   "bad image or command"
    BadEnv            "NSL031" Error   "bad environment variable"
    BadVolume         "NSL032" Error   "bad volume"
    BadCapability     "NSL033" Error   "unknown capability"
    BadSysctl         "NSL034" Error   "bad sysctl"
    BadReady          "NSL035" Error   "bad readiness probe"
    ReadyNoProcess    "NSL036" Error   "readiness probe without a process"
    BadDuration       "NSL037" Error   "bad duration"
    UnknownNode       "NSL040" Error   "director or server is an unknown node"
    ServerTwice       "NSL041" Error   "server listed twice"
    ServerIsDirector  "NSL042" Error   "server is the director"
    ServerOutOfReach  "NSL043" Error   "server out of the director's reach"
    PortMapping       "NSL044" Error   "port mapping without NAT"
    VipUnowned        "NSL045" Error   "VIP is not the director's"
    UnknownMethod     "NSL046" Error   "unknown forwarding method"
    UnknownScheduler  "NSL047" Error   "unknown scheduler"
    BadWeight         "NSL048" Error   "weight out of range"
    AllWeightsZero    "NSL049" Warning "all weights are zero"
    WeightIgnored     "NSL050" Warning "weight without effect"
    BadPort           "NSL051" Error   "port out of range"
    DuplicateService  "NSL052" Error   "two services on one address and port"
    // NSL053 was "IPv6 service", when there were none.
    NoServers         "NSL054" Error   "service without servers"
    BadPersistence    "NSL055" Error   "bad persistence"
    FlagMismatch      "NSL056" Error   "scheduler flag of another scheduler"
    AcceptMismatch    "NSL057" Error   "`accept` that the method does not have"
    BadThreshold      "NSL058" Error   "bad connection threshold"
    BadCheck          "NSL059" Error   "bad health check"
    CaptureUnknown    "NSL060" Error   "capture of an unknown interface"
    BadSnaplen        "NSL061" Error   "snaplen out of range"
    BadSize           "NSL062" Error   "bad size"
    BadFilter         "NSL063" Error   "bad capture filter"
    BadRotation       "NSL064" Error   "bad rotation of capture files"
    CaptureIgnored    "NSL065" Warning "capture settings without effect"
    OnePacketNotUdp   "NSL070" Error   "one-packet scheduling without UDP"
    EngineCannot      "NSL071" Error   "engine nft cannot do this"
    TwoEngines        "NSL072" Error   "two engines for one director"
    NatBypassed       "NSL073" Warning "answers bypass the NAT director"
    IpvsSysctl        "NSL074" Error   "IPVS sysctl where nothing is balanced"
    ServerBehind      "NSL075" Warning "director in the way of its own VIP's answers"
    TunnelFromVip     "NSL076" Warning "tunnels that begin at the VIP"
    NoCheckAddress    "NSL077" Error   "no address left to check servers from"
    BadUser           "NSL080" Error   "bad user or working directory"
    BadEnvFile        "NSL081" Error   "bad env file"
    BadTmpfs          "NSL082" Error   "bad tmpfs"
    BadStop           "NSL083" Error   "bad stop signal or grace"
    BadLimit          "NSL084" Error   "bad limit"
    CapabilityClash   "NSL085" Error   "capability added and dropped"
    NeedsImage        "NSL086" Error   "key without the image that it is about"
    NothingToRun      "NSL087" Error   "image left without a program"
    NothingToStop     "NSL088" Warning "stop settings without a process"
}

impl Code {
    /// Whether this kind of problem consists in something being absent elsewhere. Where an error
    /// hides a part of the file, such a problem may be that error's shadow, so it waits for the
    /// next run.
    pub(super) const fn is_about_absence(self) -> bool {
        matches!(
            self,
            Self::UnknownNetwork
                | Self::Ipv6Off
                | Self::NoNodes
                | Self::GatewayUnknown
                | Self::GatewayNotShared
                | Self::GatewayOutside
                | Self::GatewayNoForward
                | Self::GatewayNobody
                | Self::BadReady
                | Self::ReadyNoProcess
                | Self::UnknownNode
                | Self::ServerOutOfReach
                | Self::VipUnowned
                | Self::AllWeightsZero
                | Self::NoServers
                | Self::CaptureUnknown
                | Self::NatBypassed
                | Self::IpvsSysctl
                | Self::ServerBehind
                | Self::NeedsImage
                | Self::NothingToRun
                | Self::NothingToStop
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}
