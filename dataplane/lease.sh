#!/bin/sh
# What udhcpc calls with a lease (udhcpc(8)): the guest's address, its routes, and its resolv.conf.
# $1 is deconfig, bound, renew, nak or leasefail; the lease is in the environment.

case "$1" in
deconfig)
    ip -4 address flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    ip -4 address replace "$ip/$mask" broadcast + valid_lft "$lease" preferred_lft "$lease" dev "$interface"
    for hop in $router; do
        # As the guest's stack is configured elsewhere: one default route a NIC, the first NIC's preferred.
        ip -4 route replace default via "$hop" dev "$interface" metric "${interface#eth}" proto static
        break
    done
    if [ -n "$dns" ] && [ -n "$NETCTL_RESOLV_CONF" ]; then
        {
            [ -z "${search:-$domain}" ] || echo "search ${search:-$domain}"
            for server in $dns; do echo "nameserver $server"; done
        } >"$NETCTL_RESOLV_CONF.new" && mv "$NETCTL_RESOLV_CONF.new" "$NETCTL_RESOLV_CONF"
    fi
    ;;
esac
