package polyvisor

import "context"

// DefineXML is Define with libvirt domain XML (virDomainDefineXML). A driver
// that speaks to libvirt passes the XML on as it is; others read it as a
// Config, and what Config cannot say is an ErrInvalidConfig that lists every
// such element.
func (c *Conn) DefineXML(ctx context.Context, xml string) (*Domain, error) {
	return c.fromXML(ctx, "define", xml, false, StartOptions{})
}

// CreateXML is Create with libvirt domain XML (virDomainCreateLinux).
func (c *Conn) CreateXML(ctx context.Context, xml string, opts ...StartOption) (*Domain, error) {
	return c.fromXML(ctx, "create", xml, true, startOptions(opts))
}

func (c *Conn) fromXML(ctx context.Context, op, xml string, transient bool, o StartOptions) (*Domain, error) {
	return c.made(ctx, op, "", func(ctx context.Context) (Instance, error) {
		if err := c.need(FeatureXML); err != nil {
			return nil, err
		}
		if err := c.mayMake(transient, o); err != nil {
			return nil, err
		}
		d, ok := As[XMLDefiner](c.driver)
		if !ok {
			config, err := c.parseXML(xml)
			if err != nil {
				return nil, err
			}
			return c.makeDomain(ctx, config, transient, o)
		}
		if err := c.mayAdd(); err != nil {
			return nil, err
		}
		if transient {
			return d.CreateXML(ctx, xml, o)
		}
		return d.DefineXML(ctx, xml)
	})
}

// parseXML reads domain XML with the driver's codec.
func (c *Conn) parseXML(xml string) (*Config, error) {
	codec, err := offered[XMLCodec](c, c.driver, FeatureXML)
	if err != nil {
		return nil, err
	}
	return codec.ParseDomainXML(xml)
}

// XML describes the domain in libvirt domain XML: of an active domain, what it
// runs with. Conn.DefineXML and CreateXML make the same domain of it again
// (virDomainGetXMLDesc).
func (d *Domain) XML(ctx context.Context) (string, error) {
	var xml string
	err := d.read(ctx, "xml", func(ctx context.Context) (err error) {
		if err := d.conn.need(FeatureXML); err != nil {
			return err
		}
		if i, ok := As[XMLInstance](d.inst); ok {
			xml, err = i.XML(ctx)
			return err
		}
		codec, err := offered[XMLCodec](d.conn, d.conn.driver, FeatureXML)
		if err != nil {
			return err
		}
		c, err := d.inst.Config(ctx)
		if err != nil {
			return err
		}
		xml, err = codec.FormatDomainXML(c)
		return err
	})
	return xml, err
}

// AttachDeviceXML is AttachDevice with libvirt device XML
// (virDomainAttachDevice).
func (d *Domain) AttachDeviceXML(ctx context.Context, xml string) error {
	return d.deviceXML(ctx, opAttach, xml, XMLInstance.AttachDeviceXML)
}

// DetachDeviceXML is DetachDevice with libvirt device XML
// (virDomainDetachDevice).
func (d *Domain) DetachDeviceXML(ctx context.Context, xml string) error {
	return d.deviceXML(ctx, opDetach, xml, XMLInstance.DetachDeviceXML)
}

// UpdateDeviceXML is UpdateDevice with libvirt device XML.
func (d *Domain) UpdateDeviceXML(ctx context.Context, xml string) error {
	return d.deviceXML(ctx, opUpdate, xml, XMLInstance.UpdateDeviceXML)
}

func (d *Domain) deviceXML(ctx context.Context, op deviceOp, xml string, raw func(XMLInstance, context.Context, string) error) error {
	return d.conn.call(ctx, string(op.op), d.Name(), func(ctx context.Context) error {
		for _, f := range []Feature{FeatureXML, FeatureDevices} {
			if err := d.conn.need(f); err != nil {
				return err
			}
		}
		if _, ok := As[XMLInstance](d.inst); ok {
			return perform(ctx, d, op.op, FeatureXML, nil, func(ctx context.Context, i XMLInstance, _ bool) error { return raw(i, ctx, xml) })
		}
		codec, err := offered[XMLCodec](d.conn, d.conn.driver, FeatureXML)
		if err != nil {
			return err
		}
		dev, err := codec.ParseDeviceXML(xml)
		if err != nil {
			return err
		}
		return d.changeDevice(ctx, op, dev)
	})
}
