#!/usr/bin/env bash
# The reference for throughput: two hosts, two top-of-rack switches, a VLAN and a VPC, wired by hand.
#
#     handwired.sh up NAME DIRECTORY [ovn|plain]
#     handwired.sh down NAME DIRECTORY
#
#    vlan1  vpc1             vlan2  vpc2         10.10.0.11, .12 on VLAN 10; 192.168.1.11, .12 in the VPC
#      \    /                  \    /
#       hv1                     hv2              bond br0-up (active-backup) over eth0 and eth1
#      /   \                   /   \
#   tor1 ---+-----------------+--- tor2          every host and switch has an ovsdb-server and ovs-vswitchd
#
#   ovn    what netctl makes: ovn-controller in every host, the VLAN and the VPC are logical switches
#   plain  without OVN: VMs in access ports of br0, the VPC is one more bridge with a Geneve tunnel
#
# Namespaces NAME-hv1, NAME-vlan1 and so on; run files in DIRECTORY. Only ip, the tools of OVS and OVN (in the
# PATH, their schemas in OVS_PKGDATADIR and OVN_PKGDATADIR), and python3 for one ioctl. No netctl code.
set -euo pipefail

name=$2 directory=$3 kind=${4:-ovn}
switches="hv1 hv2 tor1 tor2"
vms="vlan1 vpc1 vlan2 vpc2"
fabric_mtu=9000
export OVS_SYSLOG_METHOD=null

inside() { ip netns exec "$name-$1" "${@:2}"; }
vsctl() { ovs-vsctl --timeout=30 --db="unix:$directory/$1/db.sock" "${@:2}"; }
nbctl() { ovn-nbctl --timeout=30 --db="unix:$directory/central/nb.sock" "$@"; }

# daemon NODE PROGRAM ROLE ARGUMENTS...
daemon() {
    local place="$directory/$1"
    inside "$1" env OVS_RUNDIR="$place" OVN_RUNDIR="$place" "$2" "${@:4}" --detach --no-chdir \
        --pidfile="$place/$3.pid" --log-file="$place/$3.log" -vconsole:off
}

# server NODE ROLE SOCKET SCHEMA
server() {
    ovsdb-tool create "$directory/$1/$2.db" "$4"
    daemon "$1" ovsdb-server "$2" "$directory/$1/$2.db" --remote="punix:$directory/$1/$3"
}

# cable NODE DEVICE MTU NODE DEVICE
cable() {
    ip link add "$2" mtu "$3" netns "$name-$1" type veth peer name "$5" mtu "$3" netns "$name-$4"
    inside "$1" ip link set "$2" up
    inside "$4" ip link set "$5" up
}

# `ethtool -K eth0 tx off`: a userspace switch does not fill in checksums that veth leaves for later.
checksums_in_software() {
    inside "$1" python3 -c '
import array, fcntl, socket, struct
off = array.array("B", struct.pack("=II", 0x17, 0))  # ETHTOOL_STXCSUM
request = struct.pack("16sP16x", b"eth0", off.buffer_info()[0])
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)  # SIOCETHTOOL'
}

address_of() {
    case $1 in
    vlan*) echo "10.10.0.1${1#vlan}" ;;
    vpc*) echo "192.168.1.1${1#vpc}" ;;
    esac
}
mac_of() { case $1 in vlan*) echo "02:00:00:00:10:0${1#vlan}" ;; vpc*) echo "02:00:00:00:20:0${1#vpc}" ;; esac; }

up() {
    local node vm
    mkdir -p "$directory/central"
    for node in $switches $vms central; do
        ip netns add "$name-$node"
        inside "$node" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        inside "$node" ip link set lo up
    done
    for node in $switches; do
        mkdir -p "$directory/$node"
        server "$node" ovsdb-server db.sock "$OVS_PKGDATADIR/vswitch.ovsschema"
        daemon "$node" ovs-vswitchd ovs-vswitchd "unix:$directory/$node/db.sock"
    done
    for node in hv1 hv2; do
        cable "$node" eth0 $fabric_mtu tor1 "$node.eth0"
        cable "$node" eth1 $fabric_mtu tor2 "$node.eth1"
    done
    cable tor1 tor2.0 $fabric_mtu tor2 tor1.0
    for vm in $vms; do
        cable "$vm" eth0 1500 "hv${vm: -1}" "$vm"
        inside "$vm" ip link set eth0 address "$(mac_of "$vm")"
        inside "$vm" ip address add "$(address_of "$vm")/24" dev eth0
        checksums_in_software "$vm"
    done
    for node in tor1 tor2; do
        vsctl "$node" add-br br -- set bridge br datapath_type=netdev -- set interface br mtu_request=$fabric_mtu \
            -- add-port br hv1."eth$((${node: -1} - 1))" -- add-port br hv2."eth$((${node: -1} - 1))" \
            -- add-port br "tor$((3 - ${node: -1})).0"
    done
    for node in hv1 hv2; do
        vsctl "$node" add-br br0 -- set bridge br0 datapath_type=netdev \
            other_config:hwaddr="02:00:00:00:00:0${node: -1}" -- set interface br0 mtu_request=$fabric_mtu \
            -- add-bond br0 br0-up eth0 eth1 bond_mode=active-backup
        inside "$node" ip address add "100.64.0.${node: -1}/24" dev br0
        inside "$node" ip link set br0 up
    done
    "$kind"
    for node in hv1 hv2; do
        ovs-appctl -t "$directory/$node"/ovs-vswitchd.*.ctl \
            tnl/neigh/set br0 "100.64.0.$((3 - ${node: -1}))" "02:00:00:00:00:0$((3 - ${node: -1}))" >/dev/null
    done
}

ovn() {
    local node vm network
    server central nb nb.sock "$OVN_PKGDATADIR/ovn-nb.ovsschema"
    server central sb sb.sock "$OVN_PKGDATADIR/ovn-sb.ovsschema"
    daemon central ovn-northd ovn-northd --ovnnb-db="unix:$directory/central/nb.sock" --ovnsb-db="unix:$directory/central/sb.sock"
    nbctl ls-add vlan -- lsp-add vlan vlan-out -- lsp-set-type vlan-out localnet \
        -- lsp-set-addresses vlan-out unknown -- lsp-set-options vlan-out network_name=fabric \
        -- set logical_switch_port vlan-out tag=10 -- ls-add vpc
    for vm in $vms; do
        network=${vm%?}
        nbctl lsp-add "$network" "$vm" -- lsp-set-addresses "$vm" "$(mac_of "$vm") $(address_of "$vm")"
    done
    for node in hv1 hv2; do
        vsctl "$node" add-br brAtlas -- set bridge brAtlas datapath_type=netdev fail_mode=secure \
            other_config:disable-in-band=true \
            -- add-port brAtlas "vlan${node: -1}" -- set interface "vlan${node: -1}" external_ids:iface-id="vlan${node: -1}" \
            -- add-port brAtlas "vpc${node: -1}" -- set interface "vpc${node: -1}" external_ids:iface-id="vpc${node: -1}" \
            -- set open_vswitch . external_ids:system-id="$node" external_ids:ovn-bridge=brAtlas \
            external_ids:ovn-bridge-datapath-type=netdev external_ids:ovn-bridge-mappings=fabric:br0 \
            external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip="100.64.0.${node: -1}" \
            external_ids:ovn-remote="unix:$directory/central/sb.sock"
        daemon "$node" ovn-controller ovn-controller "unix:$directory/$node/db.sock"
    done
    for vm in $vms; do
        nbctl wait-until logical_switch_port "$vm" up=true
    done
    nbctl --wait=hv sync
}

plain() {
    local node
    for node in hv1 hv2; do
        vsctl "$node" add-port br0 "vlan${node: -1}" tag=10 \
            -- add-br br1 -- set bridge br1 datapath_type=netdev -- add-port br1 "vpc${node: -1}" \
            -- add-port br1 gnv -- set interface gnv type=geneve options:key=1 options:csum=true \
            options:local_ip="100.64.0.${node: -1}" options:remote_ip="100.64.0.$((3 - ${node: -1}))"
    done
}

down() {
    local pidfile node
    for pidfile in "$directory"/*/*.pid; do
        [ -e "$pidfile" ] && kill -9 "$(cat "$pidfile")" 2>/dev/null || true
    done
    for node in $switches $vms central; do
        ip netns delete "$name-$node" 2>/dev/null || true
    done
    rm -rf "$directory"
}

"$1"
